// The report page's one script. It reads the run's test scores, pictures and anomaly maps from the page itself (payload.py
// says what they are), and writes names from data as text only, never as markup.
"use strict";

const run = JSON.parse(document.getElementById("run").textContent);
const $ = (id) => document.getElementById(id);
const BATCH = 24; // cards that the gallery adds at once
const STEPS = 1000; // of the slider

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function drawn(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function bytes(text) {
  const raw = atob(text);
  return Uint8Array.from({ length: raw.length }, (_, index) => raw.charCodeAt(index));
}

function once(decode) {
  const kept = new Map();
  return (key) => {
    if (!kept.has(key)) kept.set(key, decode(key));
    return kept.get(key);
  };
}

// ---------------------------------------------------------------- what was measured

const label = (list, key) => list.find((one) => one.key === key).label;
const scenarioOf = (key) => run.scenarios.find((one) => one.key === key);
const isLabelled = (name) => name.split("/")[1] !== ""; // scored and shown, but counted nowhere
const isDefective = (name) => isLabelled(name) && name.split("/")[1] !== "good";
const number = (value, digits = 3) => (value === null ? "–" : value.toFixed(digits));
const precise = (value) => String(Number(value.toPrecision(6)));

/** Scores of a method on the test images of a class in a scenario, with the images' names and truth. */
const cellOf = once((key) => {
  const [method, scenario, name] = JSON.parse(key);
  const images = run.images[name][scenarioOf(scenario).test];
  const cell = run.cells[method][scenario][name];
  return { ...cell, method, scenario, name, images, names: images.names, defective: images.names.map(isDefective), labelled: images.names.map(isLabelled) };
});
const cell = (method, scenario, name) => cellOf(JSON.stringify([method, scenario, name]));

/** An image is predicted defective if and only if its score reaches the threshold. */
const alarms = (score, threshold) => score >= threshold;

function confusion({ scores, defective, labelled }, threshold) {
  const counts = { tn: 0, fp: 0, fn: 0, tp: 0 };
  scores.forEach((score, row) => {
    if (!labelled[row]) return;
    const alarm = alarms(score, threshold);
    counts[defective[row] ? (alarm ? "tp" : "fn") : alarm ? "fp" : "tn"] += 1;
  });
  return counts;
}

const quotient = (part, whole) => (whole > 0 ? part / whole : 0);

const weighted = (weights, counts) => Object.entries(weights).reduce((sum, [key, weight]) => sum + weight * counts[key], 0);
const THERE = { normal: ({ tn, fp }) => tn + fp > 0, defects: ({ fn, tp }) => fn + tp > 0 };

/** {metric: its value}, of those that follow from counts; null is what needs images of a kind that is not there. */
const rates = (counts) =>
  Object.fromEntries(run.rates.map(({ key, part, whole, needs }) =>
    [key, needs.every((kind) => THERE[kind](counts)) ? quotient(weighted(part, counts), weighted(whole, counts)) : null]));

/** Rows of the images on which two thresholds disagree. */
const flips = ({ scores }, one, other) =>
  scores.flatMap((score, row) => (alarms(score, one) === alarms(score, other) ? [] : [row]));

/** Distance beyond the calibrated threshold, on its wrong side, in standard deviations of the scores. */
function error(found, row) {
  const beyond = found.scores[row] - found.threshold;
  return (found.defective[row] ? -beyond : beyond) / found.sigma;
}

function outcome(found, row, threshold = found.threshold) {
  if (!found.labelled[row]) return "unsure";
  const alarm = alarms(found.scores[row], threshold);
  if (alarm === found.defective[row]) return "right";
  return alarm ? "alarm" : "missed";
}

const OUTCOMES = { right: "right", alarm: "false alarm", missed: "missed", unsure: "no label" };

// ---------------------------------------------------------------- pictures and anomaly maps

const matrix = once((key) => new Float32Array(bytes(run.matrices[key]).buffer));
const mapValues = once((key) => bytes(run.maps[key].values));
const palette = once(() => bytes(run.palette));

/** One map at the size of the network's input: rows @ map @ columns', as adshift.resample.enlarge. */
function enlarged(key, place) {
  const { height, width, size: [high, wide], low, step, rows, columns } = run.maps[key];
  const stored = mapValues(key).subarray(place * height * width, (place + 1) * height * width);
  const [down, across] = [matrix(rows), matrix(columns)];
  const half = new Float32Array(high * width);
  for (let y = 0; y < high; y++)
    for (let k = 0; k < height; k++) {
      const weight = down[y * height + k];
      if (weight) for (let x = 0; x < width; x++) half[y * width + x] += weight * stored[k * width + x];
    }
  const result = new Float32Array(high * wide);
  for (let x = 0; x < wide; x++) {
    const taps = [...across.subarray(x * width, (x + 1) * width).entries()].filter(([, weight]) => weight);
    for (let y = 0; y < high; y++) {
      let sum = 0;
      for (const [k, weight] of taps) sum += weight * half[y * width + k];
      result[y * wide + x] = low[place] + step[place] * sum;
    }
  }
  return result;
}

/** Map values in [0, 1]: the threshold in the middle, or each map from its lowest to its highest value. */
function positions(values, [low, middle, high]) {
  if (run.blend.scaled === "class")
    return values.map((value) =>
      value < middle
        ? Math.max(0, (0.5 * (value - low)) / (middle - low))
        : Math.min(1, 0.5 + (0.5 * (value - middle)) / (high - middle)),
    );
  const [least, most] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
  return values.map((value) => (value - least) / (most - least || 1));
}

/** Pixels of a region that touch its outside or the border. */
function outline(region, [high, wide]) {
  return region.map((inside, at) => {
    const [x, y] = [at % wide, Math.floor(at / wide)];
    if (!inside || x === 0 || y === 0 || x === wide - 1 || y === high - 1) return inside;
    return !(region[at - 1] && region[at + 1] && region[at - wide] && region[at + wide]);
  });
}

async function pixels(uri, [height, width]) {
  const picture = new Image();
  picture.src = uri;
  await picture.decode();
  const context = make("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}

/** The map over its image, the defect and what lies above the threshold outlined; as pictures.Album.overlay. */
async function overlay(found, place) {
  const { size } = run.maps[found.maps];
  const [height, width] = size;
  const values = enlarged(found.maps, place);
  const image = await pixels(found.images.pictures[place], size);
  const mask = found.images.masks[place];
  const truth = mask ? Uint8Array.from({ length: height * width }, truthAt(await pixels(mask, size))) : new Uint8Array(height * width);
  const above = Uint8Array.from(values, (value) => value > found.scale[1]);
  const level = positions(values, found.scale);
  const colours = palette("");
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  const mixed = context.createImageData(width, height);
  const jet = run.blend.palette === "jet";
  for (let at = 0; at < height * width; at++) {
    const heat = 3 * Math.round(255 * level[at]);
    const weight = jet ? run.blend.alpha : 0.4 + 0.4 * level[at];
    const grey = (image[4 * at] + image[4 * at + 1] + image[4 * at + 2]) / 3;
    for (let channel = 0; channel < 3; channel++)
      mixed.data[4 * at + channel] = Math.round(
        (1 - weight) * (jet ? image[4 * at + channel] : grey) + weight * colours[heat + channel],
      );
    mixed.data[4 * at + 3] = 255;
  }
  for (const [region, colour] of [[truth, run.outlines.truth], [above, run.outlines.found]])
    outline(region, size).forEach((rim, at) => rim && mixed.data.set(colour, 4 * at));
  context.putImageData(mixed, 0, 0);
  return canvas;
}

const truthAt = (data) => (_, at) => (data[4 * at] >= 128 ? 1 : 0);

/** Image, ground truth and the map of every method, side by side; `seen` are (scenario, caption or nothing). */
function views(name, row, seen, judged = true) {
  const { images, names } = cell(run.methods[0].key, seen[0][0], name);
  const place = images.pictured.indexOf(row);
  if (place < 0) return [make("div", { className: "none" }, "not among the images that the page pictures")];
  const figure = (picture, caption) => {
    const whole = make("figure", {}, picture, make("figcaption", {}, caption));
    whole.style.setProperty("--aspect", images.aspects[place]);
    return whole;
  };
  const mask = images.masks[place];
  const found = [
    figure(make("img", { src: images.pictures[place], alt: `${run.titles[name]} ${names[row]}` }), "image"),
    figure(mask ? make("img", { src: mask, alt: "ground truth" }) : make("div", { className: "none" }, unmasked(names[row])), "ground truth"),
  ];
  for (const method of run.methods)
    for (const [scenario, caption] of seen) {
      const one = cell(method.key, scenario, name);
      const text = [method.label, caption && `, ${caption}`, judged && `: ${OUTCOMES[outcome(one, row)]}`].filter(Boolean).join("");
      const holder = make("canvas");
      const whole = figure(holder, text);
      whole.dataset.method = method.key;
      found.push(whole);
      drawWhenSeen(holder, async () => {
        const canvas = await overlay(one, place);
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `anomaly map, ${text}`);
        holder.replaceWith(canvas);
      });
    }
  return found;
}

const unmasked = (name) => (isDefective(name) ? "no mask" : isLabelled(name) ? "no defect" : "no label");

const waiting = new WeakMap();
const sight = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries)
      if (isIntersecting) {
        sight.unobserve(target);
        waiting.get(target)();
      }
  },
  { rootMargin: "300px" },
);

function drawWhenSeen(element, draw) {
  waiting.set(element, draw);
  sight.observe(element);
}

// ---------------------------------------------------------------- one image as a card, and enlarged

/** A card of one image; `entries` are all of its list, through which the enlarged view walks. */
function card(entries, index) {
  const { found, row, kind, words, moved } = entries[index];
  const parts = found.names[row].split("/");
  const text = make("span", { className: "words" });
  text.append(make("span", { className: `chip ${kind}` }, OUTCOMES[kind]), make("b", {}, run.titles[found.name]), `, ${parts[1]} `);
  text.append(make("span", { className: "muted" }, parts.slice(2).join("/")), make("br"), words);
  const seen = make("span", { className: "views" }, ...views(found.name, row, [[found.scenario, ""]], !moved));
  const button = make("button", { type: "button", className: `item ${kind}` }, seen, text);
  button.setAttribute("aria-label", `Enlarge ${run.titles[found.name]} ${found.names[row]}: ${OUTCOMES[kind]}, ${words}`);
  button.dataset.name = found.names[row];
  button.dataset.class = found.name;
  button.addEventListener("click", () => zoom(entries, index));
  return button;
}

let zoomed = null; // {entries, index} of the enlarged image; an entry is {found, row, kind, words, moved}, the last if
// its kind is that of a threshold that was moved

function zoom(entries, index) {
  zoomed = { entries, index };
  const { found, row, words, moved } = entries[index];
  $("zoom-title").textContent = `${run.titles[found.name]}: ${found.names[row]}`;
  $("zoom-words").textContent =
    `${label(run.scenarios, found.scenario)}. ${words} (${index + 1} of ${entries.length})`;
  $("zoom-views").replaceChildren(...views(found.name, row, [[found.scenario, ""]], !moved));
  $("zoom-before").disabled = index === 0;
  $("zoom-after").disabled = index === entries.length - 1;
  if (!$("zoom").open) $("zoom").showModal();
}

function walk(step) {
  const next = zoomed.entries[zoomed.index + step];
  if (next) zoom(zoomed.entries, zoomed.index + step);
}

$("zoom").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") walk(-1);
  if (event.key === "ArrowRight") walk(1);
});
$("zoom").addEventListener("click", (event) => event.target === $("zoom") && $("zoom").close()); // beside the dialog
$("zoom-before").addEventListener("click", () => walk(-1));
$("zoom-after").addEventListener("click", () => walk(1));
$("zoom-close").addEventListener("click", () => $("zoom").close());

const scored = (found, row) =>
  `${label(run.methods, found.method)}: score ${precise(found.scores[row])}, threshold ${precise(found.threshold)}, error ${number(error(found, row), 2)} σ`;

// ---------------------------------------------------------------- the threshold

let explored = null; // {found, threshold, low, high}

function options(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => make("option", { value }, text)));
}

const METHODS = run.methods.map((one) => [one.key, one.label]);
const SCENARIOS = run.scenarios.map((one) => [one.key, one.label]);
const CLASSES = run.classes.map((name) => [name, run.titles[name]]);
options($("pick-method"), METHODS);
options($("pick-class"), CLASSES);
options($("pick-scenario"), SCENARIOS);

function explore() {
  const found = cell($("pick-method").value, $("pick-scenario").value, $("pick-class").value);
  const ends = [...found.scores, found.threshold];
  const [least, most] = [Math.min(...ends), Math.max(...ends)];
  const margin = 0.02 * (most - least || 1); // so that the slider's ends pass everything, and nothing
  explored = { found, low: least - margin, high: most + margin };
  $("threshold-calibrated").textContent = precise(found.threshold);
  const calibrated = confusion(found, found.threshold);
  for (const key of Object.keys(calibrated)) $(`${key}-calibrated`).textContent = `calibrated: ${calibrated[key]}`;
  drawStrip();
  drawCurve($("roc"), curve(found, ({ tn, fp, fn, tp }) => [quotient(fp, fp + tn), quotient(tp, tp + fn)]), "false-positive rate", "recall");
  drawCurve($("pr"), curve(found, ({ fp, fn, tp }) => [quotient(tp, tp + fn), tp + fp ? tp / (tp + fp) : 1]), "recall", "precision");
  setThreshold(found.threshold);
}

const place = (value) => (value - explored.low) / (explored.high - explored.low);

/** Everything that a threshold changes. */
function setThreshold(threshold) {
  const { found } = explored;
  explored.threshold = threshold;
  $("threshold").value = Math.round(STEPS * place(threshold));
  $("threshold").setAttribute("aria-valuetext", precise(threshold));
  $("threshold-value").textContent = precise(threshold);
  $("threshold-value").dataset.exact = threshold;
  const counts = confusion(found, threshold);
  for (const key of Object.keys(counts)) $(key).textContent = counts[key];
  const [here, calibrated] = [rates(counts), rates(confusion(found, found.threshold))];
  $("rates").replaceChildren(
    ...run.rates.map(({ key, label: text }) => {
      const [low, high] = found.intervals[key];
      const interval = low === null ? "–" : `${number(low, 2)} to ${number(high, 2)}`;
      const line = make("tr", {}, make("th", { scope: "row" }, text));
      for (const value of [number(here[key]), number(calibrated[key]), interval]) line.append(make("td", {}, value));
      line.dataset.rate = key;
      return line;
    }),
  );
  const x = 1000 * place(threshold);
  for (const name of ["x1", "x2"]) $("strip").querySelector(".stroke-now").setAttribute(name, x);
  moveDot($("roc"), quotient(counts.fp, counts.fp + counts.tn), here.recall ?? 0);
  moveDot($("pr"), here.recall ?? 0, counts.tp + counts.fp ? here.precision ?? 0 : 1);
  showFlips();
}

function showFlips() {
  const { found, threshold } = explored;
  const entries = flips(found, found.threshold, threshold)
    .sort((a, b) => found.scores[b] - found.scores[a])
    .map((row) => {
      const now = alarms(found.scores[row], threshold) ? "now an alarm, passed before" : "passes now, an alarm before";
      const words = `${label(run.methods, found.method)}: ${now}; score ${precise(found.scores[row])}`;
      return { found, row, kind: outcome(found, row, threshold), words, moved: true };
    });
  const good = entries.filter(({ kind }) => kind === "right").length;
  const told = entries.filter(({ kind }) => kind !== "unsure").length;
  $("flip-count").textContent = entries.length
    ? `${entries.length} images flip against the calibrated threshold: ${good} to the right side, ${told - good} to the wrong one`
    : "No image flips: this decides as the calibrated threshold does";
  $("flips").replaceChildren(...entries.map((_, index) => card(entries, index)));
}

function drawStrip() {
  const { found } = explored;
  const parts = [];
  ["normal", "defective"].forEach((kind, line) => {
    const y = 8 + 36 * line;
    found.scores.forEach((score, row) => {
      if (!found.labelled[row] || found.defective[row] !== (kind === "defective")) return;
      const x = 1000 * place(score);
      parts.push(drawn("line", { x1: x, x2: x, y1: y, y2: y + 28, class: `tick stroke-${kind}`, "vector-effect": "non-scaling-stroke" }));
    });
  });
  const calibrated = 1000 * place(found.threshold);
  for (const [kind, x] of [["calibrated", calibrated], ["now", calibrated]])
    parts.push(drawn("line", { x1: x, x2: x, y1: 0, y2: 80, class: `stroke-${kind}`, "vector-effect": "non-scaling-stroke" }));
  $("strip").setAttribute("viewBox", "0 0 1000 80");
  $("strip").setAttribute("preserveAspectRatio", "none");
  $("strip").replaceChildren(...parts);
}

/** Points of a curve over all thresholds, from above every score to the lowest. */
function curve(found, point) {
  const thresholds = [...new Set(found.scores)].sort((a, b) => b - a);
  return [Infinity, ...thresholds].map((threshold) => point(confusion(found, threshold)));
}

const INSET = 24; // of a curve's frame
const across = (x) => INSET + x * (182 - INSET);
const up = (y) => 166 - y * 158;

function drawCurve(svg, points, xTitle, yTitle) {
  const path = points.map(([x, y], index) => `${index ? "L" : "M"}${across(x).toFixed(1)} ${up(y).toFixed(1)}`).join("");
  const xText = drawn("text", { x: across(0.5), y: 184, "text-anchor": "middle" });
  const yText = drawn("text", { x: -up(0.5), y: 14, transform: "rotate(-90)", "text-anchor": "middle" });
  xText.textContent = xTitle;
  yText.textContent = yTitle;
  const frame = drawn("rect", { x: across(0), y: up(1), width: across(1) - across(0), height: up(0) - up(1) });
  svg.replaceChildren(frame, drawn("path", { d: path }), xText, yText, drawn("circle", { r: 4.5 }));
}

function moveDot(svg, x, y) {
  svg.querySelector("circle").setAttribute("cx", across(x));
  svg.querySelector("circle").setAttribute("cy", up(y));
}

for (const id of ["pick-method", "pick-class", "pick-scenario"]) $(id).addEventListener("change", explore);
$("reset").addEventListener("click", () => setThreshold(explored.found.threshold));
$("threshold").addEventListener("input", () =>
  setThreshold(explored.low + (Number($("threshold").value) / STEPS) * (explored.high - explored.low)),
);

// A verdict or a scenario of a class leads to its scores.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-method]");
  if (!link) return;
  $("pick-method").value = link.dataset.method;
  $("pick-class").value = link.dataset.class;
  $("pick-scenario").value = link.dataset.scenario;
  explore();
});

// ---------------------------------------------------------------- the gallery

options($("gallery-scenario"), SCENARIOS);
options($("gallery-method"), [["", "any method"], ...METHODS]);
options($("gallery-class"), [["", "all classes"], ...CLASSES]);
const someUnlabelled = Object.values(run.images).some((domains) =>
  Object.values(domains).some(({ names }) => !names.every(isLabelled)));
if (someUnlabelled) $("gallery-kind").append(make("option", { value: "unsure" }, "images without a label"));
if (!Object.values(run.images).some(({ clean }) => clean.names.some(isDefective)))
  [$("gallery-kind").value, $("gallery-sort").value] = ["all", "score"]; // without defects: what stands out

const ORDERS = {
  error: (a, b) => b.error - a.error,
  best: (a, b) => a.error - b.error,
  score: (a, b) => b.found.scores[b.row] - a.found.scores[a.row],
  name: () => 0,
};

/** Images of the gallery as its controls say. Of several methods an image counts with the one that errs most. */
function gathered() {
  const [scenario, method, name, kind, sort] = ["scenario", "method", "class", "kind", "sort"].map((key) => $(`gallery-${key}`).value);
  const methods = method ? [method] : run.methods.map((one) => one.key);
  const entries = (name ? [name] : run.classes).flatMap((one) =>
    cell(methods[0], scenario, one).names.map((_, row) => {
      const all = methods.map((key) => cell(key, scenario, one)).map((found) => ({ found, row, error: error(found, row) }));
      const worst = all.reduce((a, b) => (b.error > a.error ? b : a));
      return { ...worst, kind: outcome(worst.found, row) };
    }),
  );
  const before = (a, b) => {
    const [one, other] = [a, b].map(({ found, row }) => `${found.name}/${found.names[row]}`);
    return one < other ? -1 : one > other ? 1 : 0;
  };
  return entries
    .filter((entry) => kind === "all" || (kind === "wrong" ? ["missed", "alarm"].includes(entry.kind) : entry.kind === kind))
    .sort((a, b) => ORDERS[sort](a, b) || before(a, b))
    .map((entry) => ({ ...entry, words: scored(entry.found, entry.row) }));
}

let gallery = [];

function showGallery() {
  gallery = gathered();
  $("gallery-items").replaceChildren();
  const missed = gallery.filter(({ kind }) => kind === "missed").length;
  const alarmed = gallery.filter(({ kind }) => kind === "alarm").length;
  $("gallery-count").textContent = `${gallery.length} images: ${missed} missed defects, ${alarmed} false alarms`;
  showMore();
}

function showMore() {
  const start = $("gallery-items").childElementCount;
  const added = gallery.slice(start, start + BATCH).map((_, index) => card(gallery, start + index));
  for (const [index, one] of added.entries()) one.dataset.error = gallery[start + index].error;
  $("gallery-items").append(...added);
  $("gallery-more").hidden = start + BATCH >= gallery.length;
  if (start && added.length) added[0].focus();
}

for (const key of ["scenario", "method", "class", "kind", "sort"]) $(`gallery-${key}`).addEventListener("change", showGallery);
$("gallery-more").addEventListener("click", showMore);

// ---------------------------------------------------------------- examples of each class

for (const holder of document.querySelectorAll(".examples")) {
  const { class: name, domain, scenarios } = holder.dataset;
  const seen = scenarios.split(" ").map((key) => [key, scenarioOf(key).caption]);
  const images = run.images[name][domain];
  holder.replaceChildren(
    ...images.shown.map((row) =>
      make("div", {}, make("b", {}, images.names[row]), make("div", { className: "views" }, ...views(name, row, seen))),
    ),
  );
}

// ---------------------------------------------------------------- light and dark

const THEMES = { "": "as the system", light: "light", dark: "dark" };

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = `Theme: ${THEMES[theme]}`;
  try {
    localStorage.setItem("adshift-theme", theme);
  } catch {
    // A browser may forbid a file to keep anything: the choice then lasts as long as the page.
  }
}

function keptTheme() {
  try {
    const kept = localStorage.getItem("adshift-theme");
    return kept in THEMES ? kept : "";
  } catch {
    return "";
  }
}

$("theme").hidden = false;
$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length]);
});
setTheme(keptTheme());
explore();
showGallery();
