// The library in a dialog: a clip moves while it is pointed at, and the dialog closes once one is chosen.

const dialog = document.getElementById("library");
const shelf = document.getElementById("library-shelf");

document.addEventListener("click", (event) => {
  if (event.target.closest("#pick")) {
    dialog.showModal();
    htmx.trigger(shelf, "open");
  }
  if (event.target.closest(".pick")) dialog.close();
});

function show(event) {
  const pick = event.target.closest?.(".pick");
  if (!pick || pick.querySelector("video")) return;
  const film = document.createElement("video");
  Object.assign(film, { src: pick.dataset.film, muted: true, loop: true, autoplay: true, playsInline: true });
  film.className = "tiny";
  pick.append(film);
}

function hide(event) {
  const pick = event.target.closest?.(".pick");
  if (pick && !pick.contains(event.relatedTarget)) pick.querySelector("video")?.remove();
}

for (const [type, act] of [["pointerover", show], ["focusin", show], ["pointerout", hide], ["focusout", hide]]) {
  shelf.addEventListener(type, act);
}
