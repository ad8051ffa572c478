// The traversal page: a slider for each of the most used numbers of a run's code, and the clip redrawn as one moves.

import { ask } from "./told.js";
import "./shelf.js";

const bench = document.getElementById("main");
const sliders = document.getElementById("sliders");
const original = document.getElementById("original");
const redrawn = document.getElementById("redrawn");
const frames = document.getElementById("frames");
const said = document.getElementById("said");
const still = matchMedia("(prefers-reduced-motion: reduce)");
const REACH = 3;
const TINY_PX = 96;

let count = 0;
let drawing = false;
let stale = false;

function moves() {
  return Object.fromEntries([...sliders.querySelectorAll("input")].map((slider) => [slider.name, Number(slider.value)]));
}

// One request at a time: what moved meanwhile is asked for once the answer is there.
async function redraw() {
  if (drawing) {
    stale = true;
    return;
  }
  drawing = true;
  do {
    stale = false;
    const wanted = moves();
    const answer = await ask("/traversal/frame", { key: bench.dataset.key, moves: wanted });
    if (answer) {
      count = answer.frames;
      frames.src = answer.strip;
      await frames.decode();
      frames.hidden = false;
      const moved = Object.entries(wanted).filter(([, value]) => value !== 0);
      said.textContent = moved.length ? moved.map(([name, value]) => `${name} ${signed(value)}`).join(", ") : "as it was";
    }
  } while (stale);
  drawing = false;
}

// The redrawn clip shows the moment that the original is at.
function paint() {
  if (count) {
    const side = frames.naturalHeight;
    const width = frames.naturalWidth / count;
    if (redrawn.width !== width || redrawn.height !== side) [redrawn.width, redrawn.height] = [width, side];
    redrawn.classList.toggle("tiny", side <= TINY_PX);
    const phase = original.duration ? original.currentTime / original.duration : 0;
    const number = Math.min(count - 1, Math.floor(phase * count));
    redrawn.getContext("2d").drawImage(frames, number * width, 0, width, side, 0, 0, width, side);
  }
  requestAnimationFrame(paint);
}

function signed(value) {
  return `${value > 0 ? "+" : ""}${value.toFixed(1)}`;
}

function slider({ name }) {
  const row = document.createElement("div");
  row.className = "slider";
  const title = document.createElement("label");
  title.htmlFor = `dim-${name}`;
  title.textContent = name;
  const input = document.createElement("input");
  Object.assign(input, { type: "range", id: `dim-${name}`, name, min: -REACH, max: REACH, step: 0.1, value: 0 });
  const value = document.createElement("output");
  value.htmlFor = input.id;
  const say = () => (value.textContent = signed(Number(input.value)));
  say();
  input.addEventListener("input", () => {
    say();
    redraw();
  });
  row.append(title, input, value);
  return row;
}

async function begin() {
  const answer = await ask("/traversal/dims");
  sliders.removeAttribute("aria-busy");
  if (!answer) return;
  for (const [part, text] of [["motion", "How it moves"], ["appearance", "What it shows"]]) {
    const group = document.createElement("fieldset");
    const legend = document.createElement("legend");
    legend.textContent = text;
    group.append(legend, ...answer.dims.filter((dim) => dim.part === part).map(slider));
    sliders.append(group);
  }
  const note = document.createElement("p");
  note.className = "note";
  note.textContent = `In standard deviations over ${answer.clips} clips of the library.`;
  sliders.append(note);
  redraw();
}

if (sliders) {
  original.addEventListener("loadedmetadata", () => original.classList.toggle("tiny", original.videoHeight <= TINY_PX));
  original.classList.toggle("tiny", original.videoHeight <= TINY_PX);
  const shots = document.querySelectorAll(".bench-top .shot");
  const move = () => (still.matches ? original.pause() : original.play().catch(() => {}));
  for (const shot of shots) {
    shot.addEventListener("pointerenter", () => original.play().catch(() => {}));
    shot.addEventListener("pointerleave", move);
  }
  still.addEventListener("change", move);
  move();
  document.getElementById("reset").addEventListener("click", () => {
    for (const input of sliders.querySelectorAll("input")) {
      input.value = 0;
      input.parentElement.querySelector("output").textContent = signed(0);
    }
    redraw();
  });
  paint();
  begin();
}
