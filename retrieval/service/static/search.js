// The search page: uploads, the switch and the blend, the way back.

import { playTogether } from "./together.js";
import { tell } from "./told.js";
import { drawMap, showOnMap } from "./map.js";
import "./shelf.js";

const ask = document.getElementById("ask");
const upload = document.getElementById("upload");
const drop = document.getElementById("drop");
const file = upload.querySelector("input[type=file]");
let uploaded = null;

// What an address leaves out.
const USUAL = { by: "motion", weight: "0.5", k: "12" };

// A file that is dropped anywhere on the page is the query.
for (const type of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    event.preventDefault();
    drop.classList.toggle("over", type === "dragover");
    if (type !== "drop") return;
    if (event.dataTransfer.files.length !== 1) {
      tell(`${event.dataTransfer.files.length} files were dropped: one clip at a time`);
      return;
    }
    file.files = event.dataTransfer.files;
    file.dispatchEvent(new Event("change", { bubbles: true }));
  });
}

// The file is kept for the predictor, which starts from the video itself, and for another part of it.
const edges = [upload.elements.start_s, upload.elements.end_s];
const part = () => edges.map((edge) => edge.value).join();
let sent = null;
let sentPart = "";
upload.addEventListener("htmx:beforeRequest", ({ detail }) => {
  if (detail.elt !== upload) return;
  [sent, sentPart] = [file.files[0], part()];
  // It is in the request. What is chosen meanwhile is the next one.
  file.value = "";
});
upload.addEventListener("htmx:afterRequest", ({ detail }) => {
  if (detail.elt !== upload) return;
  const clip = sent;
  sent = null;
  if (file.value) return;
  // Without an answer, or a good token, it may be sent once more.
  if ([0, 401].includes(detail.xhr.status)) choose(clip);
  if (!detail.successful) return;
  uploaded = clip;
  if (part() !== sentPart) sendAgain();
});
// Who names a part and then presses Search has asked with the part already.
ask.addEventListener("htmx:beforeRequest", (event) => sent && event.preventDefault());
for (const edge of edges) {
  edge.addEventListener("change", () => {
    if (sent || !uploaded || !document.querySelector("#query [name=vectors]")) return;
    if (part() !== sentPart) sendAgain();
  });
}

function choose(clip) {
  const chosen = new DataTransfer();
  chosen.items.add(clip);
  file.files = chosen.files;
}

function sendAgain() {
  choose(uploaded);
  file.dispatchEvent(new Event("change", { bubbles: true }));
}
// The same file chosen again is sent again.
file.addEventListener("click", () => (file.value = ""));
document.addEventListener("htmx:configRequest", ({ detail }) => {
  if (detail.path !== "/page/next" || !document.querySelector("#query [name=vectors]")) return;
  if (uploaded) detail.formData.set("file", uploaded, uploaded.name);
});

// The slider belongs to the switch: to move it is to ask for both.
const weight = document.getElementById("weight");
const share = weight.parentElement.querySelector("output");
weight.addEventListener("input", () => {
  sayShare();
  ask.elements.by.value = "both";
});

function sayShare() {
  share.textContent = `${Math.round(100 * weight.value)}% motion`;
}

// After another query the reader is at its answer, also one who came by keyboard and whose place is gone.
// A future belongs to its query; each press of the button draws another one.
const next = document.getElementById("next");
const futures = document.getElementById("futures");
document.addEventListener("htmx:afterSwap", ({ detail }) => {
  const other = detail.target?.id === "answer";
  if (other && document.activeElement === document.body) document.getElementById("answer").focus({ preventScroll: true });
  if (!next || (!other && detail.target !== futures)) return;
  if (other) futures.replaceChildren();
  next.elements.seed.value = futures.children.length;
  next.querySelector("button").textContent = futures.children.length ? "Sample again" : "Draw what comes next";
});

// Going back brings the answer; the form follows the address.
document.addEventListener("htmx:historyRestore", () => {
  const address = new URLSearchParams(location.search);
  for (const name of new Set([...ask.elements].map((field) => field.name).filter(Boolean))) {
    ask.elements[name].value = address.get(name) ?? USUAL[name] ?? "";
  }
  sayShare();
  playTogether(document.getElementById("answer"));
  showOnMap();
});

// On a phone the answer comes before the filters that nobody uses yet.
const refine = document.getElementById("refine");
const chosen = [...refine.querySelectorAll("select, input")].some((field) => field.value && field.name !== "k");
if (matchMedia("(max-width: 60rem)").matches && !chosen) refine.open = false;

htmx.onLoad((root) => {
  playTogether(root);
  if (root.id !== "answer" && root.id !== "hits") return;
  // Whoever asks for the looks of another clip asks by both.
  ask.elements.by.value = document.getElementById("hits").dataset.by ?? ask.elements.by.value;
  showOnMap();
});
drawMap();
