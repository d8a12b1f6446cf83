"use strict";

// The viewer of one subject: NiiVue with the volumes that the page holds, so that nothing has to be fetched.
{
  const section = document.getElementById("viewer");
  const message = document.getElementById("viewer-message");
  const form = document.getElementById("controls");
  const SETTINGS = "cgckit-view";
  const FROM_HALF = 128; // level of a probability of 0.5
  // Masks are of one colour, maps of several; the first is seen through.
  const LAYERS = {
    prior: { source: "prior", colours: ["#ffb000"] },
    refined: { source: "refined", colours: ["#26c6ff"] },
    probability: { source: "refined", colours: ["#5b1a8b", "#e0348b", "#ffe14d"], range: [0.05, 1] },
    uncertainty: { source: "uncertainty", colours: ["#0b5d3b", "#46b864", "#f4ffc2"], range: [0.01, 0.5] },
  };
  const PLANES = { all: "MULTIPLANAR", axial: "AXIAL", coronal: "CORONAL", sagittal: "SAGITTAL" };
  const STEPS = {
    ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowDown: [0, -1, 0], ArrowUp: [0, 1, 0],
    PageDown: [0, 0, -1], PageUp: [0, 0, 1],
  };

  function colormap(colours) {
    const stops = colours.length === 1 ? [colours[0], colours[0]] : colours;
    const channel = (start) => stops.map((colour) => parseInt(colour.slice(start, start + 2), 16));
    const levels = stops.map((_, index) => Math.round((255 * index) / (stops.length - 1)));
    return { R: channel(1), G: channel(3), B: channel(5), A: stops.map((_, index) => (index ? 255 : 0)), I: levels };
  }

  /** The voxels of a mask that have a neighbour outside it: its outline in every plane. */
  function shellOf(mask, [width, height, depth]) {
    const shell = new Uint8Array(mask.length);
    for (let z = 0, i = 0; z < depth; z++) {
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++, i++) {
          if (!mask[i]) continue;
          const isInside = x > 0 && mask[i - 1] && x < width - 1 && mask[i + 1]
            && y > 0 && mask[i - width] && y < height - 1 && mask[i + width]
            && z > 0 && mask[i - width * height] && z < depth - 1 && mask[i + width * height];
          if (!isInside) shell[i] = 1;
        }
      }
    }
    return shell;
  }

  /** World coordinates of a place inside a mask: the middle of its longest row of voxels; null if it is empty. */
  function placeIn({ mask, image }) {
    const [width, height] = image.hdr.dims.slice(1, 3);
    let [longest, end] = [0, 0];
    for (let i = 0, run = 0; i < mask.length; i++) {
      run = mask[i] ? (i % width ? run : 0) + 1 : 0;
      if (run > longest) [longest, end] = [run, i];
    }
    if (!longest) return null;
    const middle = end - Math.floor(longest / 2);
    const voxel = [middle % width, Math.floor(middle / width) % height, Math.floor(middle / (width * height)), 1];
    return image.hdr.affine.slice(0, 3).map((row) => row.reduce((sum, part, i) => sum + part * voxel[i], 0));
  }

  async function open() {
    const volumes = JSON.parse(document.getElementById("volumes").textContent);
    const { Niivue, NVImage, SLICE_TYPE, SHOW_RENDER } = globalThis.niivue;
    const viewer = new Niivue({
      backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 1, 0.6], crosshairWidth: 0.6, dragAndDropEnabled: false,
      isNearestInterpolation: true, loadingText: "", logLevel: "error", multiplanarShowRender: SHOW_RENDER.NEVER,
    });
    document.getElementById("stage").hidden = false;
    await viewer.attachToCanvas(document.getElementById("canvas"));
    const scan = await NVImage.loadFromBase64({ base64: volumes.image, name: "image.nii.gz", colormap: "gray" });
    [scan.cal_min, scan.cal_max] = [0, 255].map((level) => scan.hdr.scl_inter + level * scan.hdr.scl_slope);

    const layers = [];
    for (const box of form.querySelectorAll("[name=layer]")) {
      const { source, colours, range } = LAYERS[box.value];
      viewer.addColormap(`cgckit-${box.value}`, colormap(colours));
      const image = await NVImage.loadFromBase64({
        base64: volumes[source], name: `${box.value}.nii.gz`, colormap: `cgckit-${box.value}`,
      });
      [image.cal_min, image.cal_max] = range ?? [0, 1];
      const layer = { box, image };
      if (!range) {
        layer.mask = Uint8Array.from(image.img, (level) => (level >= FROM_HALF ? 1 : 0));
        layer.shell = shellOf(layer.mask, image.hdr.dims.slice(1, 4));
        [image.hdr.scl_slope, image.hdr.scl_inter] = [1, 0];
      }
      layers.push(layer);
    }
    viewer.volumes = [scan, ...layers.map(({ image }) => image)];

    function update() {
      for (const { box, image, mask, shell } of layers) {
        if (mask) image.img = form.elements.outlines.checked ? shell : mask;
        image.opacity = box.checked ? Number(form.elements.opacity.value) : 0;
      }
      viewer.opts.isRadiologicalConvention = form.elements.radiological.checked;
      viewer.opts.sliceType = SLICE_TYPE[PLANES[form.elements.planes.value]];
      viewer.setVolume(scan, 0); // which brings every volume to the graphics card once, and draws
    }

    const place = ["refined", "prior"].map((name) => layers.find(({ box }) => box.value === name))
      .filter(Boolean).map(placeIn).find(Boolean);
    viewer.onLocationChange = showLocation;
    restore();
    update();
    if (place) viewer.scene.crosshairPos = viewer.mm2frac(place);
    viewer.drawScene();
    viewer.createOnLocationChange();
    form.addEventListener("input", () => { update(); keep(); });
    form.addEventListener("submit", (event) => event.preventDefault());
    document.addEventListener("keydown", (event) => pressed(event, viewer, layers), { capture: true });
    form.hidden = false;
    message.hidden = true;
    section.dataset.state = "ready";
  }

  function showLocation({ mm, values }) {
    const place = Array.from(mm).slice(0, 3).map((value) => value.toFixed(1)).join(", ");
    const found = values.map(({ name, value }) => {
      const layer = name.replace(".nii.gz", "");
      if (layer in LAYERS && !LAYERS[layer].range) return "";
      return `${layer} ${layer in LAYERS ? value.toFixed(2) : Number(value.toPrecision(4))}`;
    });
    document.getElementById("location").textContent = [`${place} mm`, ...found.filter(Boolean)].join(" \u00b7 ");
  }

  function pressed(event, viewer, layers) {
    if (event.target.matches("input[type=text], input[type=range], input[type=radio], select")) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isOnCanvas = event.target.id === "canvas";
    const step = STEPS[event.key];
    if (step && isOnCanvas) {
      const turned = form.elements.radiological.checked ? [-step[0], step[1], step[2]] : step;
      viewer.moveCrosshairInVox(...turned);
      event.preventDefault();
    } else if (form.elements.keys.checked) {
      const planes = form.elements.planes;
      const act = {
        o: () => form.elements.outlines.click(),
        x: () => form.elements.radiological.click(),
        v: () => {
          planes.selectedIndex = (planes.selectedIndex + 1) % planes.length;
          planes.dispatchEvent(new Event("input", { bubbles: true }));
        },
      }[event.key.toLowerCase()] ?? layers[Number(event.key) - 1]?.box.click.bind(layers[Number(event.key) - 1].box);
      if (act) {
        act();
        event.preventDefault();
      }
    }
    if (isOnCanvas && event.key !== "Tab" && !"gdbnp".includes(event.key.toLowerCase())) event.stopPropagation();
  }

  /** How the reader last looked at a subject holds for the next. */
  function keep() {
    const fields = [...form.elements].filter((field) => field.name);
    const state = fields.map((field) => (field.type === "checkbox" ? field.checked : field.value));
    try {
      localStorage.setItem(SETTINGS, JSON.stringify(Object.fromEntries(fields.map((field, i) => [`${field.name}=${field.type === "checkbox" ? field.defaultValue : ""}`, state[i]]))));
    } catch { /* it is only a convenience */ }
  }

  function restore() {
    let state = {};
    try {
      state = JSON.parse(localStorage.getItem(SETTINGS) ?? "{}");
    } catch { /* see above */ }
    for (const field of form.elements) {
      const isBox = field.type === "checkbox";
      const kept = state[`${field.name}=${isBox ? field.defaultValue : ""}`];
      if (field.name && kept !== undefined) field[isBox ? "checked" : "value"] = kept;
    }
  }

  function giveUp(reason) {
    document.getElementById("stage").hidden = true;
    message.textContent = `The viewer cannot be shown: ${reason}. The pictures below show the same slices.`;
    section.dataset.state = "missing";
  }

  if (document.createElement("canvas").getContext("webgl2")) {
    open().catch((error) => giveUp(error.message));
  } else {
    giveUp("this browser has no WebGL 2");
  }
}
