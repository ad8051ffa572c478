// Clips that play in step: all of a group start again together, so that the same moment of each is seen at once.

const still = matchMedia("(prefers-reduced-motion: reduce)");
const groups = new Map();
let paused = still.matches;

// Small films are enlarged by whole pixels: a smoothed stamp shows nothing.
const TINY_PX = 96;

class Group {
  constructor(element) {
    this.element = element;
    this.timer = 0;
  }

  get clips() {
    return [...this.element.querySelectorAll("video.clip")];
  }

  // A long query must not let the hits stand still: a round is as long as the longest hit.
  get seconds() {
    const of = (clips) => Math.max(0, ...clips.map((clip) => clip.duration || 0));
    return of(this.clips.filter((clip) => !clip.classList.contains("master"))) || of(this.clips);
  }

  start(clips = this.clips) {
    clearTimeout(this.timer);
    for (const clip of clips) {
      clip.currentTime = 0;
      clip.play().catch(() => {});
    }
    // A clip that came late joins in the next round.
    const wait = this.seconds > 0 ? this.seconds * 1000 : 200;
    this.timer = setTimeout(() => this.element.isConnected && this.start(clips), wait);
  }

  stop() {
    clearTimeout(this.timer);
    for (const clip of this.clips) clip.pause();
  }
}

function refresh() {
  for (const [element, group] of groups) {
    if (!element.isConnected) groups.delete(element);
    else if (paused) group.stop();
    else group.start();
  }
  const button = document.getElementById("play");
  if (button) button.textContent = paused ? "Play" : "Pause";
}

function pause(wanted) {
  paused = wanted;
  refresh();
}

// Where all stand still, a clip moves while it is pointed at, together with the query.
function watch(event) {
  const shot = event.target.closest?.(".shot");
  const group = shot && groups.get(shot.closest("[data-together]"));
  if (!group || !paused) return;
  if (event.type === "pointerover" || event.type === "focusin") {
    group.start([...shot.querySelectorAll("video.clip"), ...group.element.querySelectorAll("video.master")]);
  } else {
    group.stop();
  }
}

export function playTogether(root) {
  for (const clip of root.querySelectorAll("video")) {
    const mark = () => clip.classList.toggle("tiny", Math.max(clip.videoWidth, clip.videoHeight) <= TINY_PX);
    clip.addEventListener("loadedmetadata", mark);
    mark();
  }
  const found = root.matches("[data-together]") ? [root] : root.querySelectorAll("[data-together]");
  const around = root.closest("[data-together]");
  for (const element of [...found, ...(around ? [around] : [])]) {
    if (!groups.has(element)) groups.set(element, new Group(element));
  }
  refresh();
}

for (const type of ["pointerover", "pointerout", "focusin", "focusout"]) document.addEventListener(type, watch);
document.addEventListener("click", (event) => event.target.closest("#play") && pause(!paused));
still.addEventListener("change", () => pause(still.matches));
