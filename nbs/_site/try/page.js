// The page: sample, file or webcam in; image with points, a sentence and a table out. worker.js runs the models.
import { headPose, measureExpression } from "./find.js";
import known from "./known.js";

const $ = (name) => document.getElementById(`try-${name}`);
const canvas = $("canvas"), status = $("status"), table = $("table"), measures = $("measures"), webcam = $("webcam"), file = $("file");
const LONGEST = 3000; // longer side in pixels; larger images are reduced before detection
let shown = null, asked = 0, stream = null, worker = null;
const waiting = new Map();

function start() {
  // start the worker, with runtime and models, on the first press: they are 12 MB
  if (worker) return;
  status.textContent = "Loading the models (first use only) …";
  worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }) => {
    if (data.ready) return;
    if (data.number === undefined) say(data.error);
    waiting.get(data.number)?.(data);
    waiting.delete(data.number);
  };
  worker.onerror = () => say("The page's script could not start; this browser may be too old.");
}

function ask(picture, smallest) {
  // return the worker's result for an image
  const number = ++asked;
  start();
  return new Promise((answer) => {
    waiting.set(number, answer);
    worker.postMessage({ number, picture, smallest });
  });
}

const say = (text) => { status.textContent = text; };
const degrees = (value) => String(Math.round(value) || 0); // no minus before a zero
const words = (name) => name.replaceAll("_", " ");
const count = (number, thing) => `${number === 1 ? "One" : number} ${thing}${number === 1 ? "" : "s"}`;

// ---------------------------------------------------------------- reading images

const reader = document.createElement("canvas"), readerContext = reader.getContext("2d", { willReadFrequently: true });

function read(source, width, height) {
  // return the pixels of an image or video frame, with transparent parts on white, and the scale of the reduced image
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  reader.width = Math.max(1, Math.round(width * scale));
  reader.height = Math.max(1, Math.round(height * scale));
  readerContext.fillStyle = "white";
  readerContext.fillRect(0, 0, reader.width, reader.height);
  readerContext.imageSmoothingQuality = "high";
  readerContext.drawImage(source, 0, 0, reader.width, reader.height);
  const { data } = readerContext.getImageData(0, 0, reader.width, reader.height);
  return { picture: { data, width: reader.width, height: reader.height }, scale };
}

async function look(blob, name) {
  stop();
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    say(`${name} is not an image that this browser can read. Try a JPEG, PNG or WebP.`);
    return;
  }
  const { picture, scale } = read(bitmap, bitmap.width, bitmap.height);
  show(bitmap, picture, [], name);
  if (worker) say("Detecting …");
  const answer = await ask(picture);
  if (shown?.bitmap !== bitmap) return; // another image was chosen meanwhile
  if (answer.error) { say(answer.error); return; }
  show(bitmap, picture, answer.faces, name);
  tell(answer, scale, picture);
}

// ---------------------------------------------------------------- showing what was found

function show(bitmap, picture, faces, name, mirrored = false) {
  // draw the image, and over it boxes, points and the expected error of each point
  shown = { bitmap };
  const large = Math.min(Math.max(960 / Math.max(picture.width, picture.height), 1), 1440 / Math.max(picture.width, picture.height));
  canvas.width = Math.round(picture.width * large);
  canvas.height = Math.round(picture.height * large);
  const pen = canvas.getContext("2d");
  const across = (x) => (mirrored ? picture.width - 1 - x : x) * large + large / 2, down = (y) => (y + 0.5) * large;
  pen.save();
  if (mirrored) pen.setTransform(-1, 0, 0, 1, canvas.width, 0);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  pen.restore();
  faces.forEach((face, number) => {
    const line = Math.max(2, face.frame[2] * large / 150), dot = Math.max(2.5, face.frame[2] * large / 110);
    const [left, right] = [across(face.box[0]), across(face.box[2])].sort((a, b) => a - b), top = down(face.box[1]);
    pen.setLineDash(face.flags.length ? [5 * line, 4 * line] : []);
    for (const [color, width] of [["#141414", line + 2], ["#ffffff", line]]) {
      pen.strokeStyle = color;
      pen.lineWidth = width;
      pen.strokeRect(left, top, right - left, down(face.box[3]) - top);
    }
    pen.setLineDash([]);
    face.points.forEach(([x, y], k) => {
      const ring = (radius, fill) => { pen.beginPath(); pen.arc(across(x), down(y), radius, 0, 7); pen.fillStyle = fill; pen.fill(); };
      ring(Math.max(face.sigma[k] * large, dot), `${known.colors[k]}55`);
      ring(dot * 1.3, "#ffffff");
      ring(dot, known.colors[k]);
    });
    const text = `${faces.length > 1 ? `${number + 1}: ` : ""}${face.confidence.toFixed(2)} ${face.flags.join(" ")}`.trim(), size = Math.max(15, Math.min(28, face.frame[2] * large / 12));
    pen.font = `600 ${size}px system-ui, sans-serif`;
    const wide = pen.measureText(text).width + 10, x = Math.min(Math.max(left, 0), canvas.width - wide), y = Math.max(top - size * 1.4, 0);
    pen.fillStyle = "#141414";
    pen.fillRect(x, y, wide, size * 1.35);
    pen.fillStyle = "#ffffff";
    pen.fillText(text, x + 5, y + size);
  });
  canvas.setAttribute("aria-label", `${name}, ${faces.length ? `with ${count(faces.length, "face").toLowerCase()}: boxes, and fifteen coloured points on each` : "without points"}`);
}

function tell({ faces, milliseconds }, scale, picture) {
  // write the sentence and the tables
  const time = `${Math.max(1, Math.round(milliseconds))} ms`;
  if (!faces.length) {
    const least = Math.ceil(known.smallest * Math.max(picture.width, picture.height));
    say(`No face found in ${time}. Covered faces, profiles and faces narrower than ${least} pixels are missed. A face that fills half of the image is detected best.`);
  } else {
    const best = faces[0], off = best.sigma.reduce((sum, value) => sum + value, 0) / best.sigma.length;
    const doubts = best.flags.length ? ` Flagged: ${best.flags.join(", ")}.` : "";
    say(`${count(faces.length, "face")} found in ${time}. ${faces.length > 1 ? "Highest confidence" : "Confidence"}: ${best.confidence.toFixed(2)}; expected error of its keypoints: `
      + `about ${(off / scale).toFixed(1)} pixels, on a face ${Math.round(best.frame[2] / scale)} pixels wide.${doubts} `
      + `In interocular distances: ${Object.entries(measureExpression(best.points)).map(([name, value]) => `${words(name)} ${value.toFixed(2)}`).join(", ")}. `
      + `Head pose: ${Object.entries(headPose(best.points)).map(([name, value]) => `${name} ${degrees(value)}°`).join(", ")}.`);
  }
  const row = (texts) => {
    const made = document.createElement("tr");
    made.append(...texts.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    return made;
  };
  measures.querySelector("tbody").replaceChildren(...faces.map(({ points }, number) => row([number + 1,
    ...Object.values(measureExpression(points)).map((value) => value.toFixed(2)), ...Object.values(headPose(points)).map((value) => value.toFixed(1))])));
  table.querySelector("tbody").replaceChildren(...faces.flatMap((face, number) => face.points.map(([x, y], k) => {
    // coordinates in the image's original size; the centre of a pixel is a whole number
    const values = [(x + 0.5) / scale - 0.5, (y + 0.5) / scale - 0.5, face.sigma[k] / scale];
    return row([number + 1, words(known.keypoints[k]), ...values.map((value) => value.toFixed(2))]);
  })));
  $("numbers").hidden = !faces.length;
}

// ---------------------------------------------------------------- the webcam

function stop() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  webcam.textContent = "Webcam";
  webcam.setAttribute("aria-pressed", "false");
  status.setAttribute("aria-live", "polite");
}

async function watch() {
  let camera;
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 640 } } });
  } catch (error) {
    say(error?.name === "NotAllowedError" ? "The browser has no permission to use the webcam: allow it in the address bar, then press again." : "No webcam could be opened. Try an image instead.");
    return;
  }
  stop();
  stream = camera;
  webcam.textContent = "Stop the webcam";
  webcam.setAttribute("aria-pressed", "true");
  const video = Object.assign(document.createElement("video"), { srcObject: camera, muted: true, playsInline: true });
  await video.play();
  if (!worker) start();
  else say("Detecting …");
  status.setAttribute("aria-live", "off"); // a screen reader need not read every frame
  let last = performance.now(), rate = 0;
  while (stream === camera) {
    const frame = await createImageBitmap(video), { picture, scale } = read(frame, frame.width, frame.height);
    const answer = await ask(picture, 0.15);
    if (stream !== camera) break;
    if (answer.error) { stop(); say(answer.error); break; }
    show(frame, picture, answer.faces, "The webcam image, mirrored", true);
    tell(answer, scale, picture);
    const now = performance.now();
    rate = rate ? 0.9 * rate + 100 / (now - last) : 1000 / (now - last);
    last = now;
    status.textContent += ` ${rate.toFixed(0)} frames per second.`;
    frame.close();
  }
}

// ---------------------------------------------------------------- the buttons

for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", async () => {
    const answer = await fetch(new URL(button.dataset.sample, import.meta.url));
    look(await answer.blob(), button.textContent.trim());
  });
}
file.addEventListener("change", () => {
  if (file.files[0]) look(file.files[0], file.files[0].name);
  file.value = ""; // so that the same file can be chosen again
});
webcam.addEventListener("click", () => (stream ? (stop(), say("The webcam is off.")) : watch()));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) look(event.dataTransfer.files[0], event.dataTransfer.files[0].name);
});
addEventListener("pagehide", stop);

const first = $("first"); // the image shown before the first press
first.decode().then(() => createImageBitmap(first)).then((bitmap) => {
  if (!shown) show(bitmap, bitmap, [], "One synthetic face");
});
$("unserved").hidden = true;
$("works").hidden = false;
