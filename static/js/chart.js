// Small live charts: a line of the last values in an SVG of the page. Looks come from `.chart` in base.css.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 100;
/** Room above the highest value, so that the line is not cut. */
const HEADROOM = 1.1;

/**
 * Makes a live chart of `svg`.
 *
 * @param {SVGSVGElement} svg an empty `<svg class="chart">`
 * @param {object} [options]
 * @param {number} [options.points] how many values are shown
 * @param {number | null} [options.max] the upper end of the scale; `null`: the highest value shown
 * @param {string} [options.unit] stands behind the value in the accessible name
 * @param {number} [options.series] how many lines
 * @param {string | (() => string)} [options.label] what is shown; a function is asked again each time
 * @param {(value: number) => string} [options.format] a value in words; default: the number and the unit
 * @param {(() => string) | null} [options.name] the whole accessible name, where label and last values do not tell it
 */
export function sparkline(svg, { points = 60, max = null, unit = "", series = 1, label = "", format = null, name = null } = {}) {
  const say = format ?? ((value) => `${round(value)}${unit ? ` ${unit}` : ""}`);
  const shown = Array.from({ length: series }, () => []);
  svg.setAttribute("viewBox", `0 0 ${points - 1} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const area = series === 1 ? add(svg, "chart-area") : null;
  const lines = shown.map((_, index) => add(svg, `chart-line series-${index + 1}`));
  const redraw = () => {
    const highest = max ?? Math.max(0, ...shown.flat().filter(isValue)) * HEADROOM;
    shown.forEach((values, index) => lines[index].setAttribute("d", path(values, points, highest)));
    area?.setAttribute("d", surface(shown[0], points, highest));
    svg.setAttribute("aria-label", name ? name() : nameOf());
  };
  const nameOf = () => {
    const last = shown.map((values) => (isValue(values.at(-1)) ? say(values.at(-1)) : "–")).join(" / ");
    const what = typeof label === "function" ? label() : label;
    return what ? `${what}: ${last}` : last;
  };
  redraw();
  return {
    /** Adds one value per series; anything that is not a number leaves a gap. */
    push(...values) {
      shown.forEach((list, index) => {
        list.push(isValue(values[index]) ? values[index] : null);
        if (list.length > points) list.shift();
      });
      redraw();
    },
    clear() {
      for (const list of shown) list.length = 0;
      redraw();
    },
  };
}

function add(svg, name) {
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("class", name);
  line.setAttribute("vector-effect", "non-scaling-stroke");
  svg.append(line);
  return line;
}

const isValue = (value) => typeof value === "number" && Number.isFinite(value);

/** The newest value stands at the right edge; a gap lifts the pen. */
function path(values, points, highest) {
  let pen = "M";
  const steps = values.map((value, index) => {
    if (value === null) {
      pen = "M";
      return "";
    }
    const step = `${pen}${points - values.length + index} ${height(value, highest)}`;
    pen = "L";
    return step;
  });
  return steps.join("");
}

/** What lies under the line, from gap to gap. */
function surface(values, points, highest) {
  const pieces = [];
  let piece = null;
  values.forEach((value, index) => {
    const x = points - values.length + index;
    if (value === null) {
      piece = null;
      return;
    }
    if (!piece) pieces.push((piece = { from: x, steps: [] }));
    piece.steps.push(`L${x} ${height(value, highest)}`);
    piece.to = x;
  });
  return pieces.map(({ from, to, steps }) => `M${from} ${HEIGHT}${steps.join("")}L${to} ${HEIGHT}Z`).join("");
}

function height(value, highest) {
  const part = highest > 0 ? Math.min(Math.max(value / highest, 0), 1) : 0;
  return Math.round((1 - part) * HEIGHT * 10) / 10;
}

function round(value) {
  return value.toLocaleString(document.documentElement.lang || undefined, { maximumFractionDigits: value < 10 ? 1 : 0 });
}
