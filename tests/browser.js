// What is wrong with a page, in sentences: what sticks out of it sideways, and texts of too little contrast.
// Contrast is WCAG's, over everything that lies behind a text, with opacities; texts in SVG figures included.

const LEAST = 4.5;

function problems(width, figures) {
  for (const part of document.querySelectorAll("details")) part.open = true;
  const faint = figures ? [...document.images].flatMap(faintInPicture) : [];
  return [...overflowing(width), ...faintTexts(), ...faint];
}

function overflowing(width) {
  const found = [];
  const all = document.scrollingElement.scrollWidth;
  if (all > width) found.push(`the page is ${all} pixels wide in a window of ${width}`);
  for (const element of document.body.querySelectorAll("*")) {
    const right = element.getBoundingClientRect().right;
    if (right > width + 1 && shown(element) && !scrolls(element)) {
      found.push(`<${element.tagName.toLowerCase()}> reaches to ${Math.round(right)}: ${words(element)}`);
    }
  }
  return found;
}

function scrolls(element) {
  for (let e = element.parentElement; e && e !== document.body; e = e.parentElement) {
    if (["auto", "scroll"].includes(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth) return true;
  }
  return false;
}

function shown(element) {
  return element.checkVisibility({ contentVisibilityAuto: true, opacityProperty: true, visibilityProperty: true });
}

function words(element) {
  return element.textContent.trim().slice(0, 40);
}

// A colour of CSS as [red, green, blue, alpha], from 0 to 1.
const known = new Map();
function colour(text) {
  if (!known.has(text)) {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    known.set(text, [...canvas.getImageData(0, 0, 1, 1).data].map((value) => value / 255));
  }
  return [...known.get(text)];
}

// `top`, at an opacity, over a colour that hides what is behind it.
function over(top, bottom, opacity = 1) {
  const alpha = top[3] * opacity;
  return [0, 1, 2].map((i) => top[i] * alpha + bottom[i] * (1 - alpha)).concat(1);
}

function luminance(rgb) {
  const [r, g, b] = rgb.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

// The colours of a text and of what is behind it, as `chain`, its ancestors from the root on, paint them.
function painted(chain, base, text) {
  if (!chain.length) return [over(text, base), base];
  const style = getComputedStyle(chain[0]);
  const inner = painted(chain.slice(1), over(colour(style.backgroundColor), base), text);
  return inner.map((rgb) => over(rgb, base, Number(style.opacity)));
}

function faintTexts() {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, element = text.parentElement;
    if (!text.data.trim() || !shown(element) || ["STYLE", "SCRIPT"].includes(element.tagName)) continue;
    const chain = [];
    for (let e = element; e; e = e.parentElement) chain.unshift(e);
    const picture = chain.find((e) => getComputedStyle(e).backgroundImage !== "none");
    if (picture) found.push(`a picture is behind "${words(element)}": its contrast is not known`);
    // A printed page is white; a window has the canvas of its colour scheme.
    const canvas = matchMedia("print").matches ? [1, 1, 1, 1] : colour("Canvas");
    const ratio = contrast(...painted(chain, canvas, colour(getComputedStyle(element).color)));
    if (ratio < LEAST) found.push(`contrast ${ratio.toFixed(2)} of "${words(element)}"`);
  }
  return found;
}

// Figures are SVG in data URLs, whose letters are outlines. Each is put into the page, so that the browser tells
// which shape is behind a text.
function faintInPicture(image) {
  const head = "data:image/svg+xml;base64,";
  if (!image.currentSrc.startsWith(head)) return [`the picture "${image.alt}" is no SVG: its texts are not checked`];
  const bytes = Uint8Array.from(atob(image.currentSrc.slice(head.length)), (letter) => letter.charCodeAt(0));
  const svg = new DOMParser().parseFromString(new TextDecoder().decode(bytes), "image/svg+xml").documentElement;
  const place = document.body.appendChild(document.createElement("div"));
  place.style.cssText = "position: fixed; inset: 0; z-index: 9; background: transparent";
  svg.style.cssText = "position: absolute; inset: 0; width: 100%; height: 100%";
  place.append(document.importNode(svg, true));
  const texts = [...place.querySelectorAll('g[id^="text_"]')];
  const shapes = [...place.querySelectorAll("path, rect, use")]
    .filter((e) => !e.closest('g[id^="text_"], defs') && getComputedStyle(e).fill !== "none")
    .map((e) => ({ element: e, box: e.getBoundingClientRect(), fill: filled(e) }));
  const found = texts.flatMap((text) => faintInFigure(text, shapes));
  if (!texts.length) found.push(`the picture "${image.alt}" has no texts`);
  place.remove();
  return found;
}

function faintInFigure(text, shapes) {
  const name = [...text.childNodes].find((node) => node.nodeType === Node.COMMENT_NODE)?.data.trim() ?? "";
  const letter = text.querySelector("use, path, text");
  if (!letter) return [];
  const box = text.getBoundingClientRect(), ink = filled(letter);
  const ratios = [0.1, 0.5, 0.9].map((part) => {
    const point = new DOMPoint(box.left + part * box.width, box.top + box.height / 2);
    const behind = shapes.filter((shape) => covers(shape, point));
    const base = behind.reduce((rgb, shape) => over(shape.fill, rgb), [1, 1, 1, 1]);
    return contrast(over(ink, base), base);
  });
  const ratio = Math.min(...ratios);
  return ratio < LEAST ? [`contrast ${ratio.toFixed(2)} of "${name}" in a figure`] : [];
}

function covers({ element, box }, point) {
  if (point.x < box.left || point.x > box.right || point.y < box.top || point.y > box.bottom) return false;
  if (!(element instanceof SVGGeometryElement)) return true;
  return element.isPointInFill(point.matrixTransform(element.getScreenCTM().inverse()));
}

// The fill of a shape with all opacities above it.
function filled(shape) {
  const style = getComputedStyle(shape);
  const rgba = colour(style.fill === "none" ? style.stroke : style.fill);
  rgba[3] *= Number(style.fillOpacity);
  for (let e = shape; e instanceof SVGElement; e = e.parentElement) rgba[3] *= Number(getComputedStyle(e).opacity);
  return rgba;
}
