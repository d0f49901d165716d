// Find every face in an image and its fifteen points: the steps of facekp.predict, in the browser. Unit 12 explains them.
// A picture is {data, width, height} with four bytes per pixel, RGBA; a frame (crop) is [centre x, centre y, width, roll]; a place is [x, y].
import known from "./known.js";

const clip = (value, low, high) => Math.min(Math.max(value, low), high);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const middle = (places) => [mean(places.map(([x]) => x)), mean(places.map(([, y]) => y))];
const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
const whole = (pixels) => Math.ceil(pixels / 32) * 32;

// ---------------------------------------------------------------- resizing

function shares(from, to) {
  // for each new pixel: the first old pixel, and the weights of this and the following ones (area average, or linear interpolation between two)
  const step = from / to;
  return Array.from({ length: to }, (_, index) => {
    if (step > 1) {
      const low = index * step, high = Math.min((index + 1) * step, from);
      const first = Math.floor(low), last = Math.min(Math.ceil(high - 1e-9), from);
      return [first, Array.from({ length: last - first }, (_, k) => (Math.min(first + k + 1, high) - Math.max(first + k, low)) / (high - low))];
    }
    const place = clip((index + 0.5) * step - 0.5, 0, from - 1), first = Math.min(Math.floor(place), Math.max(from - 2, 0));
    return [first, from > 1 ? [1 - (place - first), place - first] : [1]];
  });
}

export function resize(picture, width, height) {
  const rows = shares(picture.height, height), columns = shares(picture.width, width);
  const data = new Uint8ClampedArray(width * height * 4), line = new Float32Array(picture.width * 3);
  for (let y = 0; y < height; y++) {
    line.fill(0);
    rows[y][1].forEach((share, k) => {
      const start = (rows[y][0] + k) * picture.width * 4;
      for (let x = 0, from = start, to = 0; x < picture.width; x++, from += 4, to += 3) {
        line[to] += share * picture.data[from];
        line[to + 1] += share * picture.data[from + 1];
        line[to + 2] += share * picture.data[from + 2];
      }
    });
    for (let x = 0; x < width; x++) {
      const [first, weights] = columns[x], to = (y * width + x) * 4;
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * line[(first + k) * 3 + channel];
        data[to + channel] = sum;
      }
      data[to + 3] = 255;
    }
  }
  return { data, width, height };
}

function withBorder(picture, border) {
  // the image with replicated borders
  const width = picture.width + 2 * border, height = picture.height + 2 * border, data = new Uint8ClampedArray(width * height * 4);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (clip(y - border, 0, picture.height - 1) * picture.width + clip(x - border, 0, picture.width - 1)) * 4;
      data.set(picture.data.subarray(from, from + 4), (y * width + x) * 4);
    }
  }
  return { data, width, height };
}

function part(picture, left, top, right, bottom) {
  const width = right - left + 1, height = bottom - top + 1, data = new Uint8ClampedArray(width * height * 4);
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * picture.width + left) * 4;
    data.set(picture.data.subarray(from, from + width * 4), y * width * 4);
  }
  return { data, width, height };
}

// ---------------------------------------------------------------- frames (crops)

export function frameFromPoints(inside, points) {
  // the frame of the similarity transform that maps one set of points to the other with the least squared error
  const from = middle(inside), to = middle(points);
  let along = 0, across = 0, size = 0;
  inside.forEach(([x, y], k) => {
    const ax = x - from[0], ay = y - from[1], bx = points[k][0] - to[0], by = points[k][1] - to[1];
    along += ax * bx + ay * by;
    across += ax * by - ay * bx;
    size += ax * ax + ay * ay;
  });
  const scale = Math.hypot(along, across) / size, roll = Math.atan2(across, along);
  const off = from.map((value) => (known.imageSize - 1) / 2 - value);
  return [to[0] + scale * (Math.cos(roll) * off[0] - Math.sin(roll) * off[1]), to[1] + scale * (Math.sin(roll) * off[0] + Math.cos(roll) * off[1]),
    scale * known.imageSize, roll];
}

export function toPicture(points, [x, y, width, roll]) {
  const scale = width / known.imageSize, cos = Math.cos(roll) * scale, sin = Math.sin(roll) * scale, centre = (known.imageSize - 1) / 2;
  return points.map(([px, py]) => [x + cos * (px - centre) - sin * (py - centre), y + sin * (px - centre) + cos * (py - centre)]);
}

export function cutFace(picture, [x, y, width, roll], side = known.imageSize, oversample = true) {
  // crop a frame without aliasing; the border is replicated outside the image; the detector needs one sample per pixel
  const reach = width / 2 * (Math.abs(Math.cos(roll)) + Math.abs(Math.sin(roll))) + 2;
  const [left, right] = [x - reach, x + reach].map((edge) => Math.trunc(clip(edge, 0, picture.width - 1)));
  const [top, bottom] = [y - reach, y + reach].map((edge) => Math.trunc(clip(edge, 0, picture.height - 1)));
  let piece = part(picture, left, top, right, bottom);
  const step = width / side, fine = step > 1 && oversample ? 2 : 1, shrink = [1, 1];
  if (step > 2) {
    const times = oversample ? step / 2 : 2 ** Math.floor(Math.log2(step));
    const smaller = [piece.width, piece.height].map((size) => Math.max(1, Math.round(size / times)));
    shrink[0] = smaller[0] / piece.width;
    shrink[1] = smaller[1] / piece.height;
    piece = resize(piece, ...smaller);
  }
  const cos = Math.cos(roll) * step / fine, sin = Math.sin(roll) * step / fine, large = side * fine, half = (large - 1) / 2;
  const cut = { data: new Uint8ClampedArray(large * large * 4), width: large, height: large };
  for (let row = 0; row < large; row++) {
    for (let column = 0; column < large; column++) {
      const px = (x - left + cos * (column - half) - sin * (row - half) + 0.5) * shrink[0] - 0.5;
      const py = (y - top + sin * (column - half) + cos * (row - half) + 0.5) * shrink[1] - 0.5;
      const x0 = Math.floor(px), y0 = Math.floor(py), dx = px - x0, dy = py - y0, to = (row * large + column) * 4;
      const xs = [x0, x0 + 1].map((value) => clip(value, 0, piece.width - 1)), ys = [y0, y0 + 1].map((value) => clip(value, 0, piece.height - 1));
      for (let channel = 0; channel < 3; channel++) {
        const at = (a, b) => piece.data[(ys[b] * piece.width + xs[a]) * 4 + channel];
        cut.data[to + channel] = (at(0, 0) * (1 - dx) + at(1, 0) * dx) * (1 - dy) + (at(0, 1) * (1 - dx) + at(1, 1) * dx) * dy;
      }
      cut.data[to + 3] = 255;
    }
  }
  return fine === 1 ? cut : resize(cut, side, side);
}

function smoothed({ data, width, height }, sigma) {
  // a separable Gaussian blur; the image is mirrored at its border
  const reach = Math.max(1, Math.round(4 * sigma)), kernel = Array.from({ length: 2 * reach + 1 }, (_, k) => Math.exp(-((k - reach) ** 2) / (2 * sigma ** 2)));
  const total = kernel.reduce((sum, value) => sum + value, 0), inside = (value, size) => (value < 0 ? -value : value >= size ? 2 * size - 2 - value : value);
  const blur = (from, read) => Float32Array.from(from, (_, at) => {
    const channel = at % 4, x = Math.floor(at / 4) % width, y = Math.floor(at / 4 / width);
    return kernel.reduce((sum, weight, k) => sum + weight * from[read(x, y, k - reach) * 4 + channel], 0) / total;
  });
  return blur(blur(data, (x, y, step) => y * width + inside(x + step, width)), (x, y, step) => inside(y + step, height) * width + x);
}

export function cutSharp(picture, frame, side = known.imageSize) {
  // crop a frame and sharpen it by unsharp masking
  const cut = cutFace(picture, frame, side), smooth = smoothed(cut, known.smoothing * side);
  return { ...cut, data: Uint8ClampedArray.from(cut.data, (value, at) => Math.floor(clip(value + known.sharpening * (value - smooth[at]), 0, 255))) };
}

// ---------------------------------------------------------------- the face detector

async function look(nets, pictures) {
  // the detector's output for every cell: places [centre, size, right eye, left eye, nose, mouth, ears] and scores
  const { width, height } = pictures[0], area = width * height, values = new Float32Array(pictures.length * 3 * area);
  pictures.forEach(({ data }, n) => {
    for (let k = 0; k < area; k++) {
      for (let channel = 0; channel < 3; channel++) values[(n * 3 + channel) * area + k] = data[k * 4 + channel] / 127.5 - 1;
    }
  });
  const { boxes, scores } = await nets.detector.run({ picture: new nets.Tensor("float32", values, [pictures.length, 3, height, width]) }, ["boxes", "scores"]);
  const cells = [];
  for (const [stride, guesses] of [[8, 2], [16, 6]]) {
    for (let y = 0; y < height / stride; y++) {
      for (let x = 0; x < width / stride; x++) {
        for (let k = 0; k < guesses; k++) cells.push([(x + 0.5) * stride, (y + 0.5) * stride]);
      }
    }
  }
  return pictures.map((_, n) => cells.map((cell, k) => {
    const start = (n * cells.length + k) * 16, score = 1 / (1 + Math.exp(-clip(scores.data[n * cells.length + k], -50, 50)));
    return { score, place: score < known.faintScore ? null : Array.from({ length: 8 }, (_, mark) => [0, 1].map((axis) => boxes.data[start + 2 * mark + axis] + (mark === 1 ? 0 : cell[axis]))) };
  }));
}

function weighted(places, weights) {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return places[0].map((_, mark) => [0, 1].map((axis) => places.reduce((sum, place, k) => sum + weights[k] * place[mark][axis], 0) / total));
}

export function mergeOverlaps(found, overlap = known.overlap) {
  // merge overlapping boxes into one face: their weighted mean, and the best score
  const edges = ({ place: [centre, size] }) => [0, 1].map((axis) => [centre[axis] - size[axis] / 2, centre[axis] + size[axis] / 2]);
  const area = (box) => box.reduce((product, [low, high]) => product * Math.max(high - low, 0), 1);
  let left = [...found].sort((a, b) => b.score - a.score);
  const faces = [];
  while (left.length) {
    const best = edges(left[0]);
    const same = left.map((other, k) => {
      const box = edges(other), shared = area(best.map(([low, high], axis) => [Math.max(low, box[axis][0]), Math.min(high, box[axis][1])]));
      return k === 0 || shared > overlap * Math.max(area(best) + area(box) - shared, 1e-9);
    });
    const group = left.filter((_, k) => same[k]);
    faces.push({ place: weighted(group.map((one) => one.place), group.map((one) => one.weight)), score: left[0].score });
    left = left.filter((_, k) => !same[k]);
  }
  return faces;
}

const toStride = (pixels) => 32 * Math.floor(pixels / 32 + 0.5);

function pyramidSides(longest, smallest) {
  // the longer side of each scale for the detector, smallest first
  const finest = Math.max(known.netSize, toStride(Math.min(known.seenFrom / smallest, known.maxEnlargement * longest)));
  const sides = [known.netSize, 2 * known.netSize];
  while (known.levelStep * sides.at(-1) < finest) sides.push(known.levelStep * sides.at(-1));
  return [...sides.filter((side) => 1.5 * side < finest), finest];
}

async function findCandidates(nets, picture, smallest, least = known.leastScore) {
  // run the detector on the image at all scales
  const longest = Math.max(picture.width, picture.height), found = [];
  for (const side of pyramidSides(longest, smallest)) {
    const scale = side / longest, inner = [picture.width, picture.height].map((size) => Math.max(1, Math.round(size * scale)));
    const small = resize(picture, ...inner), canvas = { width: whole(inner[0]), height: whole(inner[1]) };
    canvas.data = new Uint8ClampedArray(canvas.width * canvas.height * 4).fill(127);
    for (let y = 0; y < small.height; y++) canvas.data.set(small.data.subarray(y * small.width * 4, (y + 1) * small.width * 4), y * canvas.width * 4);
    for (const { place, score } of (await look(nets, [canvas]))[0]) {
      if (score > least) {
        const weight = score * Math.exp(-(Math.log2(Math.max(place[1][0], 1) / known.bestSeen) ** 2));
        found.push({ score, weight, place: place.map((mark, k) => mark.map((value) => value / scale - (k === 1 ? 0 : 0.5))) });
      }
    }
  }
  return mergeOverlaps(found);
}

async function lookInMiddle(nets, picture, frames, side, cut) {
  // the detections in the centre of each frame
  if (!frames.length) return [];
  const answers = await look(nets, frames.map((frame) => cut(picture, frame, side, false)));
  return answers.map((cells) => cells.filter(({ place }) => place && Math.max(...place[0].map((value) => Math.abs(value - side / 2))) < side / 5));
}

async function lookAgain(nets, picture, frames, cut, least) {
  // detect again in each frame: eyes, nose and mouth of a face, if there is one
  const best = (cells) => Math.max(0, ...cells.map(({ score }) => score)), found = [];
  const wide = frames.filter((frame) => frame[2] >= 4).map(([x, y, width, roll]) => [x, y, width * known.secondLook, roll]);
  (await lookInMiddle(nets, picture, wide, known.netSize, cut)).forEach((inside, n) => {
    const score = best(inside);
    if (score >= least) {
      const good = inside.filter((cell) => cell.score > 0.8 * score);
      const marks = weighted(good.map(({ place }) => place.slice(2, 6)), good.map((cell) => cell.score));
      found.push({ score, marks: toPicture(marks.map((mark) => mark.map((value) => value * known.imageSize / known.netSize - 0.5)), wide[n]) });
    }
  });
  return found;
}

// ---------------------------------------------------------------- the keypoints

async function predictPoints(nets, pictures) {
  const area = known.imageSize ** 2, count = known.keypoints.length, values = new Float32Array(pictures.length * area);
  pictures.forEach(({ data }, n) => {
    for (let k = 0; k < area; k++) values[n * area + k] = Math.round(0.299 * data[k * 4] + 0.587 * data[k * 4 + 1] + 0.114 * data[k * 4 + 2]);
  });
  const input = { [nets.model.inputNames[0]]: new nets.Tensor("float32", values, [pictures.length, known.imageSize, known.imageSize, 1]) };
  const { points, sigma } = await nets.model.run(input, ["points", "sigma"]);
  return pictures.map((_, n) => ({
    inside: Array.from({ length: count }, (_, k) => [0, 1].map((axis) => points.data[(n * count + k) * 2 + axis])),
    sigma: Array.from(sigma.data.subarray(n * count, (n + 1) * count)),
  }));
}

function sideways([right, left, nose]) {
  // distance of the nose from the midline of the eyes, in eye distances: 0 for a frontal face
  const across = [left[0] - right[0], left[1] - right[1]];
  const off = [0, 1].reduce((sum, axis) => sum + (nose[axis] - (right[axis] + left[axis]) / 2) * across[axis], 0);
  return Math.abs(off / Math.max(across[0] ** 2 + across[1] ** 2, 1e-6));
}

function probability(points, sigma, score, shift) {
  // the probability that the points are correct: a logistic regression on the measurements
  const sure = clip(score, 0.002, 0.998), [x, y, width, roll] = frameFromPoints(known.meanFace, points), size = width / known.frameWidth;
  const average = toPicture(known.meanFace, [x, y, size, roll]), scale = known.imageSize / size;
  const shape = Math.sqrt(mean(points.map((place, k) => ((place[0] - average[k][0]) ** 2 + (place[1] - average[k][1]) ** 2) / 2))) * scale;
  const weights = known.confidence, measured = { score: Math.log(sure / (1 - sure)), sigma: Math.log(Math.max(sigma, 0.1)), shift: Math.log1p(shift), shape: Math.log1p(shape) };
  const odds = Object.keys(measured).reduce((sum, name) => sum + weights[name] * measured[name], weights.bias);
  return 1 / (1 + Math.exp(-clip(odds, -30, 30)));
}

function makeFace(picture, points, sigma, frame, marks, confidence) {
  const pixel = frame[2] / known.imageSize, size = [picture.width, picture.height];
  const own = [points[1], points[0], points[known.keypoints.indexOf("nose_tip")]];
  const hidden = sigma.filter((value, k) => value > known.hiddenRatio * known.usualSigma[k]).length >= known.hiddenPoints;
  const outside = points.some((place) => place.some((value, axis) => value < -0.5 || value > size[axis] - 0.5))
    || [0, 1].some((axis) => frame[axis] < 0.3 * frame[2] || frame[axis] > size[axis] - 0.3 * frame[2]);
  const reasons = { small: frame[2] < known.small, cut: outside, turned: Math.max(sideways(own), sideways(marks)) > known.turned, unsure: confidence < known.sure || hidden };
  return { points, sigma: sigma.map((value) => value * pixel), frame, confidence, flags: Object.keys(reasons).filter((name) => reasons[name]),
    box: [frame[0] - frame[2] / 2, frame[1] - frame[2] / 2, frame[0] + frame[2] / 2, frame[1] + frame[2] / 2] };
}

const samePlace = (a, b) => distance(a, b) < 0.4 * Math.min(a[2], b[2]);

function eachOnce(faces) {
  const kept = [];
  for (const face of [...faces].sort((a, b) => b.confidence - a.confidence)) {
    if (!kept.some((other) => samePlace(face.frame, other.frame))) kept.push(face);
  }
  return kept;
}

async function findPoints(nets, picture, found, least = known.leastConfidence, cut = cutFace) {
  // crop, predict the points, and crop again unless the confidence is very low
  let faces = found.map(({ marks, score }) => ({ marks, score, frame: frameFromPoints(known.detectedFrame, marks) }));
  for (let pass = 0; pass < known.passes && faces.length; pass++) {
    if (pass) {
      faces = faces.filter(({ confidence }) => confidence >= known.hopeless * least).map((face) => {
        const [x, y, width, roll] = frameFromPoints(known.meanFace, face.points);
        return { ...face, frame: [x, y, width / known.frameWidth, roll] };
      });
      if (!faces.length) break;
    }
    const answers = await predictPoints(nets, faces.map(({ frame }) => cut(picture, frame)));
    faces = faces.map((face, k) => {
      const { inside, sigma } = answers[k], points = toPicture(inside, face.frame);
      const shift = face.points ? mean(points.map((place, n) => distance(place, face.points[n]))) * known.imageSize / face.frame[2] : known.usualShift;
      return { ...face, points, sigma, confidence: probability(points, mean(sigma), face.score, shift) };
    });
  }
  return eachOnce(faces.filter(({ confidence }) => confidence >= least)
    .map(({ points, sigma, frame, marks, confidence }) => makeFace(picture, points, sigma, frame, marks, confidence)));
}

function turned(picture) {
  // the image rotated by 90 degrees counterclockwise
  const { width, height } = picture, data = new Uint8ClampedArray(width * height * 4);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) data.set(picture.data.subarray((y * width + x) * 4, (y * width + x) * 4 + 4), ((width - 1 - x) * height + y) * 4);
  }
  return { data, width: height, height: width };
}

async function searchTurned(nets, picture, frames) {
  // frames found in a small image with a border in four orientations, and the first known frames in the other orientations
  const side = Math.min(Math.max(picture.width, picture.height), 256), scale = side / Math.max(picture.width, picture.height);
  const coarse = resize(picture, ...[picture.width, picture.height].map((size) => Math.max(1, Math.round(size * scale))));
  const border = Math.trunc(0.4 * side), found = [];
  for (const [x, y, width, roll] of frames.slice(0, known.turnedPlaces)) {
    for (const turn of [1, 2, 3]) found.push([x, y, width, roll + turn * Math.PI / 2]);
  }
  let framed = withBorder(coarse, border);
  const widths = [];
  for (let turn = 0; turn < 4; turn++) {
    for (const { place } of await findCandidates(nets, framed, 0.1)) {
      const back = widths.reduceRight((places, width) => places.map(([x, y]) => [width - 1 - y, x]), place.slice(2, 6));
      found.push(frameFromPoints(known.detectedFrame, back.map((mark) => mark.map((value) => (value - border + 0.5) / scale - 0.5))));
    }
    widths.push(framed.width);
    framed = turned(framed);
  }
  return found;
}

export async function findFaces(nets, picture, smallest = known.smallest) {
  // nets: the sessions `detector` and `model`, and ONNX Runtime's `Tensor`; faces are sorted by confidence, highest first
  const longest = Math.max(picture.width, picture.height), finest = pyramidSides(longest, smallest).at(-1) / longest;
  const refine = async (frames, cut = cutFace, least = 0.5) => findPoints(nets, picture, await lookAgain(nets, picture, frames, cut, least), known.leastConfidence, cut);
  const seen = (await findCandidates(nets, picture, smallest)).map(({ place, score }) => {
    const marks = place.slice(2, 6), frame = frameFromPoints(known.detectedFrame, marks);
    const well = mean(place[1]) * finest >= known.seenWell[0] && score >= known.seenWell[1] && Math.abs(frame[3]) < 0.3 && sideways(marks) < 0.2;
    return { marks, score, frame, well };
  });
  const clear = await findPoints(nets, picture, seen.filter(({ well }) => well), known.clear);
  const doubtful = seen.map(({ frame }) => frame).filter((frame) => !clear.some((face) => samePlace(frame, face.frame)));
  const sure = (faces) => faces.some((face) => face.confidence >= known.sure);
  let faces = eachOnce([...clear, ...await refine(doubtful)]);
  if (sure(faces)) return faces;
  const frames = seen.map(({ frame }) => frame), others = await searchTurned(nets, picture, frames);
  faces = eachOnce([...faces, ...await refine(others)]);
  if (sure(faces)) return faces;
  faces = eachOnce([...faces, ...await refine([...frames, ...others], cutSharp)]);
  if (sure(faces)) return faces;
  const faint = (await findCandidates(nets, picture, smallest, known.faintScore)).slice(0, known.faintPlaces).map(({ place }) => frameFromPoints(known.detectedFrame, place.slice(2, 6)));
  for (const cut of [cutFace, cutSharp]) faces = eachOnce([...faces, ...await refine(faint, cut, known.faintSecondScore)]);
  return faces;
}

export function measureExpression(points) {
  // mouth opening, smile width and brow raise, in interocular distances
  const place = (name) => points[known.keypoints.indexOf(name)], apart = (a, b) => distance(place(a), place(b));
  const eyes = apart("left_eye_center", "right_eye_center"), brows = ["left", "right"].map((side) => apart(`${side}_eyebrow_inner_end`, `${side}_eye_center`));
  return { mouth_opening: apart("mouth_center_top_lip", "mouth_center_bottom_lip") / eyes, smile_width: apart("mouth_left_corner", "mouth_right_corner") / eyes, brow_raise: mean(brows) / eyes };
}

export function headPose(points) {
  // yaw, pitch and roll in degrees: the least-squares fit of the mean head under parallel projection
  const [across, down, forward] = known.headFit.map((row) => [0, 1].map((axis) => row.reduce((sum, weight, k) => sum + weight * points[k][axis], 0)));
  const roll = Math.atan2(-down[0], down[1]), upright = ([x, y]) => [Math.cos(roll) * x + Math.sin(roll) * y, Math.cos(roll) * y - Math.sin(roll) * x];
  const [acrossX, acrossY] = upright(across), [forwardX, forwardY] = upright(forward), yaw = Math.atan2(forwardX, acrossX);
  const pitch = Math.asin(clip((acrossY * Math.sin(yaw) - forwardY * Math.cos(yaw)) / Math.hypot(acrossX, forwardX), -1, 1));
  return Object.fromEntries(Object.entries({ yaw, pitch, roll }).map(([name, angle]) => [name, angle * 180 / Math.PI]));
}
