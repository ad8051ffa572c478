// The map of the library: a point a clip, near ones alike. Pointer and arrow keys go to a clip, click and Enter ask by it.

import { ask } from "./told.js";

const box = document.getElementById("map");
const canvas = document.getElementById("map-canvas");
const tip = document.getElementById("map-tip");
const film = tip.querySelector("video");
const said = document.getElementById("map-said");
const label = document.getElementById("map-label");
const key = document.getElementById("map-key");
const how = document.getElementById("map-how");
const pen = canvas.getContext("2d");

// The first six are told apart by people of every colour vision (Okabe and Ito); a clip's label is also said in words.
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6bb1", "#7f8c1f", "#a0522d", "#e7298a"];
const REACH_PX = 18;
const MARGIN_PX = 24;

let map = { points: [], values: [] };
let shownBy = "";
let current = -1;
let wanted = null;
let seen = false;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function by() {
  return document.getElementById("hits").dataset.by === "appearance" ? "appearance" : "motion";
}

function place([, x, y]) {
  const width = canvas.clientWidth - 2 * MARGIN_PX;
  const height = canvas.clientHeight - 2 * MARGIN_PX;
  return [MARGIN_PX + ((x + 1) / 2) * width, MARGIN_PX + ((1 - y) / 2) * height];
}

function paint() {
  const scale = devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  const [plain, ink, accent] = ["--faint", "--ink", "--accent"].map(colour);
  const queries = new Set([...document.querySelectorAll("#query [name=key]")].map((field) => field.value));
  const hits = new Set([...document.querySelectorAll("#hits [data-key]")].map((link) => link.dataset.key));
  const dot = (point, radius, fill) => {
    pen.beginPath();
    pen.arc(...place(point), radius, 0, 2 * Math.PI);
    pen.fillStyle = fill;
    pen.fill();
  };
  const ring = (point, radius, stroke) => {
    pen.beginPath();
    pen.arc(...place(point), radius, 0, 2 * Math.PI);
    pen.lineWidth = 2;
    pen.strokeStyle = stroke;
    pen.stroke();
  };
  pen.globalAlpha = 0.75;
  for (const point of map.points) dot(point, 3, map.values.length ? colourOf(point[3]) ?? plain : plain);
  pen.globalAlpha = 1;
  for (const point of map.points) if (hits.has(point[0])) ring(point, 5, ink);
  for (const point of map.points) if (queries.has(point[0])) { dot(point, 6, accent); ring(point, 9, accent); }
  if (current >= 0) ring(map.points[current], 8, ink);
}

function colourOf(value) {
  return value === null || value === undefined || value >= COLOURS.length ? undefined : COLOURS[value];
}

function explain() {
  const shown = map.values.slice(0, COLOURS.length).map((value, number) => {
    const item = document.createElement("li");
    const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    mark.setAttribute("viewBox", "0 0 10 10");
    const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    for (const [name, given] of [["cx", 5], ["cy", 5], ["r", 5], ["fill", COLOURS[number]]]) circle.setAttribute(name, given);
    mark.append(circle);
    item.append(mark, value);
    return item;
  });
  if (map.values.length > COLOURS.length) {
    const rest = document.createElement("li");
    rest.textContent = `${map.values.length - COLOURS.length} more in grey`;
    shown.push(rest);
  }
  key.replaceChildren(...shown);
}

async function load() {
  wanted?.abort();
  wanted = new AbortController();
  const asked = by();
  how.textContent = asked === "motion" ? "move" : "look";
  said.textContent = "Laying out the map …";
  const answer = await ask(`/map?${new URLSearchParams({ by: asked, label: label.value })}`, undefined, { signal: wanted.signal });
  if (!answer) return;
  map = answer;
  shownBy = asked;
  go(-1);
  explain();
  const part = map.points.length < map.clips ? `${map.points.length} of ${map.clips} clips, evenly chosen` : `${map.clips} clips`;
  said.textContent = `${part}; ringed are the hits, filled is the query.`;
}

function go(number) {
  current = number;
  tip.hidden = number < 0;
  if (number < 0) {
    film.removeAttribute("src");
  } else {
    const [name] = map.points[number];
    const [left, top] = place(map.points[number]);
    film.src = `/clips/${encodeURIComponent(name)}/video`;
    film.play().catch(() => {});
    const value = map.values[map.points[number][3]];
    tip.querySelector("figcaption").textContent = value === undefined ? name : `${label.selectedOptions[0].text} ${value}`;
    tip.style.left = `${Math.max(0, Math.min(left + 14, box.clientWidth - tip.offsetWidth))}px`;
    tip.style.top = `${Math.max(0, Math.min(top + 14, box.clientHeight - tip.offsetHeight))}px`;
  }
  paint();
}

function nearest(x, y, allowed = () => true) {
  let best = -1;
  let least = Infinity;
  map.points.forEach((point, number) => {
    const [left, top] = place(point);
    const distance = Math.hypot(left - x, top - y);
    if (distance < least && allowed(left - x, top - y, number)) [best, least] = [number, distance];
  });
  return [best, least];
}

function search() {
  if (current < 0) return;
  htmx.ajax("POST", "/page/answer", { source: box, target: "#answer", swap: "outerHTML show:#main:top", values: { ...htmx.values(document.getElementById("ask")), key: map.points[current][0] } });
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function step(event) {
  if (event.key === "Enter") return search();
  if (event.key === "Escape") return go(-1);
  const way = ARROWS[event.key];
  if (!way || !map.points.length) return;
  event.preventDefault();
  if (current < 0) return announce(nearest(canvas.clientWidth / 2, canvas.clientHeight / 2)[0]);
  const [x, y] = place(map.points[current]);
  // Within half a right angle of the arrow.
  const ahead = (dx, dy, number) => number !== current && dx * way[0] + dy * way[1] > Math.abs(dx * way[1] + dy * way[0]);
  const [next] = nearest(x, y, ahead);
  if (next >= 0) announce(next);
}

function announce(number) {
  go(number);
  said.textContent = `${tip.querySelector("figcaption").textContent}; Enter searches by it.`;
}

canvas.addEventListener("pointermove", (event) => {
  const [number, distance] = nearest(event.offsetX, event.offsetY);
  const found = distance <= REACH_PX ? number : -1;
  if (found !== current) go(found);
});
canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && go(-1));
canvas.addEventListener("pointerdown", (event) => {
  const before = current;
  const [number, distance] = nearest(event.offsetX, event.offsetY);
  const found = distance <= REACH_PX ? number : -1;
  if (found !== current) go(found);
  // A finger cannot point first: its first touch shows the clip, the second one asks by it.
  if (event.pointerType === "mouse" || before === found) search();
});
canvas.addEventListener("keydown", step);
label.addEventListener("change", () => load());

export function drawMap() {
  new ResizeObserver(paint).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  new IntersectionObserver(([entry]) => {
    if (entry.isIntersecting && !seen) {
      seen = true;
      load();
    }
  }, { rootMargin: "200px" }).observe(box);
}

// After another answer: the map of what it was asked by, with its hits.
export function showOnMap() {
  if (!seen) return;
  if (by() !== shownBy) load();
  else paint();
}
