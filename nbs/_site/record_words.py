"The field's terms for texts in older records and in the shipped model's file, which are kept as written."

TERMS = {  # longer texts first: each is replaced where it occurs
    "answers of MediaPipe's attention mesh to these mixed into the marks": "labels blended with MediaPipe Attention Mesh predictions",
    "weights: learned from photographs whose terms allow research only; no photograph is contained": "research only, as required by the terms of the training photographs; the file contains no photograph",
    "drawn faces": "synthetic faces",
    "facing (nose within 5% of the eyes' distance from their middle)": "frontal (nose within 5% of the eye distance from the midline)",
    "middling (": "medium (",
    "found with a mean error under 0.3 of the interocular distance (a method without keypoints: with the middle of a box within 0.5 of it of the mean of the true points)":
        "found if its mean error is under 0.3 of the interocular distance. For a method without keypoints, the centre of the box must be within half of that distance of the mean of the true points",
    "logistic regression: is the mean error of a found face at most 0.15 of the interocular distance; real faces blended into face-free pictures":
        "A logistic regression estimates the probability that the mean error of a found face is at most 0.15 of the interocular distance. It was tested on real faces blended into images without faces",
    "On a machine with a graphics card there is no limit, and this runs what is missing (with `weights = imagenet` in settings.ini, where the pretrained nets shall start from it):": "On a machine with a GPU there is no limit, and this command runs the missing trials (with `weights = imagenet` in settings.ini for pretrained models):",
    "face-free pictures": "images without faces",
    "unspoiled": "unchanged",
    "spoiled copies": "degraded copies",
    "half of the crop in one grey": "half of the crop in uniform grey",
    "methods in turns": "methods in turn",
    "the present search, and photographs, were not timed on an idle machine": "the current search was not timed on an idle machine, and no photographs were timed",
    "and grey crops, one thread": "as in run 1, with grey crops, one thread",
    "pyramid for detector and crops in place of four resizes": "pyramid for detector and crops instead of four resizes",
    "896 pixels at most, in place of four": "896 pixels at most, instead of four",
    "where several take more processor time and no less time": "where several threads take more processor time and save no time",
    "Dropping candidates without hope after the first pass": "Dropping candidates with a very low confidence after the first pass",
    "since it let all of 168 and 745 candidates pass": "since it accepted all of 168 and 745 candidates",
    "all faces that MediaPipe finds; the model has seen none": "all faces that MediaPipe finds. The model was not trained on them",
}
CONDITIONS = {  # ways in which a face is degraded, and images to reject, by their names in recipes/default/
    "none": "unchanged", "sunglasses": "sunglasses", "mask": "mask over mouth and nose", "blur": "strong blur", "hidden": "half hidden", "dark": "low light", "noise": "noise", "small": "small face",
    "roll": "rolled", "negative": "negative", "upside_down": "upside down", "no_face": "no face"}
PARTS = {  # parts of the recipe, by their names in recipes/default/train.py
    "mediapipe": "blending labels with MediaPipe predictions", "second_file": "photographs of LFPW", "portraits": "portraits of SCUT-FBP5500", "web": "web photographs of MTFL", "frames": "video frames of YouTube Faces", "synthetic": "synthetic faces",
    "strong": "strong augmentation (replaced by the plain recipe of unit 7)", "plain": "the plain recipe's share of the copies", "warp": "local warps", "occlusion": "occluding patches", "unblended": "stage 3 (mostly photographs, unblended labels), so fewer images are shown", "blended_stage_3": "unblended labels in stage 3 (replaced by blended ones)", "mixed_stage_3": "mostly photographs in stage 3 (replaced by the shares of stage 2)",
    "wider_network": "the network (replaced by that of version 7)", "cubic_copies": "bilinear interpolation of the strong copies (replaced by bicubic)", "more_photographs": "the share of photographs in stage 1 (replaced by two thirds)", "early_synthetic": "stage 1 without synthetic faces (replaced by an eighth of the copies)",
    "degraded": "degraded copies (sunglasses, masks, blur, hidden halves, darkness, noise)",
    "outlier_removal": "dropping frames whose label and MediaPipe prediction differ most", "bias_correction": "correcting the constant offset of the labels", "mae": "absolute error (replaced by squared error)",
    "weight_decay": "weight decay", "window": "cropping to the window (replaced by the whole crop)", "wing": "absolute error (replaced by wing loss)",
    "coordinates": "heatmaps and absolute error (replaced by coordinate bins and cross-entropy)",
    "second_stage": "stage 2, so fewer images are shown", "pseudo_labels": "pseudo-labels of frames", "third_stage": "stage 3, so fewer images are shown", "averaging": "averaging weights of two runs, so fewer images are shown", "final_stage": "the final stages, so fewer images are shown"}


def in_terms(text: str) -> str:
    "Return a text of a record in the field's terms."
    for old, new in TERMS.items():
        text = text.replace(old, new)
    return text
