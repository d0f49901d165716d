// Load ONNX Runtime and both models once, then return the faces of each image; in a worker, so that the page stays responsive.
import * as ort from "./onnxruntime/ort.wasm.min.mjs";
import { findFaces } from "./find.js";

ort.env.wasm.numThreads = 1; // more threads would need headers that a plain web server does not send
ort.env.wasm.wasmPaths = new URL("./onnxruntime/", import.meta.url).href;
ort.env.logLevel = "error";

const open = (name) => ort.InferenceSession.create(new URL(name, import.meta.url).href, { executionProviders: ["wasm"], logSeverityLevel: 3 });
const nets = Promise.all([open("./face_detector.onnx"), open("./default.onnx")]).then(([detector, model]) => ({ detector, model, Tensor: ort.Tensor }));
nets.then(() => postMessage({ ready: true }), (error) => postMessage({ error: `The models could not be loaded: ${error.message ?? error}` }));

addEventListener("message", async ({ data: { number, picture, smallest } }) => {
  try {
    const loaded = await nets, started = performance.now();
    const faces = await findFaces(loaded, picture, smallest);
    postMessage({ number, faces, milliseconds: performance.now() - started });
  } catch (error) {
    postMessage({ number, error: `This image could not be processed: ${error.message ?? error}` });
  }
});
