"use strict";
// The explorer of a report: draws the curves that the reader chooses from the data in #explorer-data, which
// explorer.py makes. The choice is in the address, as in #loss=moco&nu=0.5, so that a view can be shared.
{
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const root = document.getElementById("explorer");
  const part = (name) => root.querySelector(`.${name}`);
  const SVG = part("plot").firstElementChild.namespaceURI;
  const SHOWN = { score: "the score", zero: "minus rho 0", exposure: "noisy minus exposure" };
  const HEADS = { loss: "Loss", nu: "nu", pairing: "Pairs" };
  const MOST_LINES = 20;
  const SHAPES = {  // around 0, 0
    o: "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0", s: "M-3 -3H3V3H-3Z", "^": "M0 -4L4 3H-4Z", v: "M0 4L4 -3H-4Z",
    "<": "M-4 0L3 -4V4Z", D: "M0 -4.4L4.4 0L0 4.4L-4.4 0Z", P: "M-1.3 -4H1.3V-1.3H4V1.3H1.3V4H-1.3V1.3H-4V-1.3H-1.3Z",
    X: "M-4 -2L-2 -4L0 -2L2 -4L4 -2L2 0L4 2L2 4L0 2L-2 4L-4 2L-2 0Z", p: "M0 -4.2L4 -1.3L2.5 3.4H-2.5L-4 -1.3Z",
    h: "M0 -4.2L3.6 -2.1V2.1L0 4.2L-3.6 2.1V-2.1Z", "*": "M0 -5L1.3 -1.6H4.8L2 .7L3 4.2L0 2.1L-3 4.2L-2 .7L-4.8 -1.6H-1.3Z",
  };

  let study = data.studies[0];
  let choice = {};  // axis -> its chosen values; and `score` and `shown`

  // ---- what is chosen ----

  const baseline = (name) => data.baselines.includes(name);
  const has = (shown, score) => study.lines.some((line) => line.values[score][shown]);
  const varied = () => Object.keys(study.axes).filter((axis) => !(axis in HEADS));

  function initial() {
    const first = ([axis, values]) => {
      if (axis === "loss") return [axis, values.filter((name) => !baseline(name) || name === "random")];
      return [axis, axis === varied()[0] ? values : values.slice(0, 1)];
    };
    return { ...Object.fromEntries(Object.entries(study.axes).map(first)), score: study.score, shown: "score" };
  }

  /** The choice in the address; what it does not name, or names wrongly, is as at the beginning. */
  function readAddress() {
    if (!location.hash.includes("=")) return false;  // an anchor of the page
    const asked = new URLSearchParams(location.hash.slice(1));
    study = data.studies[Number(asked.get("study") ?? 1) - 1] ?? data.studies[0];
    choice = initial();
    for (const [axis, values] of Object.entries(study.axes)) {
      const wanted = values.filter((value) => asked.getAll(axis).includes(String(value)));
      if (asked.has(axis)) choice[axis] = wanted.length ? wanted : choice[axis];
    }
    if (asked.get("score") in study.scores) choice.score = asked.get("score");
    if (asked.get("shown") in SHOWN) choice.shown = asked.get("shown");
    return true;
  }

  function writeAddress() {
    const words = new URLSearchParams();
    if (data.studies.length > 1) words.set("study", data.studies.indexOf(study) + 1);
    for (const axis of Object.keys(study.axes)) choice[axis].forEach((value) => words.append(axis, value));
    words.set("score", choice.score);
    words.set("shown", choice.shown);
    history.replaceState(null, "", `#${words}`);
  }

  // ---- the lines ----

  const text = (axis, value) => {
    if (axis === "loss" || axis === "pairing") return data.names[value];
    return axis === "nu" ? `nu ${value}` : `${axis} ${value}`;
  };
  const same = (one, other, axes) => axes.every((axis) => one.at[axis] === other.at[axis]);

  /** The chosen lines; each has `points`: rho, value, ends of the interval, number of seeds; null without a value. */
  function chosenLines() {
    const wanted = (line) => Object.entries(line.at).every(([axis, value]) => choice[axis].includes(value));
    const values = (line) => {
      const found = line.values[choice.score][choice.shown];
      return line.rho.map((rho, i) => (found?.[i] ? { rho, ...point(found[i]) } : { rho, value: null }));
    };
    const clean = study.lines.filter((line) => !line.at.pairing);
    const noisy = study.lines.filter((line) => line.at.pairing && wanted(line) && line.values[choice.score][choice.shown]);
    const lines = noisy.map((line) => {
      const start = clean.find((other) => same(line, other, ["loss", ...varied()]));
      const zero = { score: start && values(start), zero: [{ rho: 0, value: 0, low: null, high: null, n: 0 }] };
      return { ...line, points: [...(zero[choice.shown] ?? []), ...values(line)] };
    });
    if (choice.shown === "score") {  // those without noisy pairs are levels
      const alone = (line) => !study.lines.some((other) => other.at.pairing && same(line, other, ["loss", ...varied()]));
      lines.push(...clean.filter((line) => wanted(line) && alone(line)).map((line) => ({ ...line, points: values(line) })));
    }
    return lines.map((line, index) => ({ ...line, name: nameOf(line, lines), style: styleOf(line, lines, index) }));
  }

  function point([value, low, high, n]) {
    const scale = study.scores[choice.score].fraction ? 100 : 1;
    const scaled = (number) => (number === null ? null : scale * number);
    return { value: scaled(value), low: scaled(low), high: scaled(high), n };
  }

  const differing = (lines) =>
    Object.keys(study.axes).filter((axis) => new Set(lines.map((line) => line.at[axis]).filter((v) => v !== undefined)).size > 1);

  function nameOf(line, lines) {
    const differ = differing(lines);
    const axes = Object.keys(study.axes).filter((axis) => axis in line.at && (axis === "loss" || differ.includes(axis)));
    return axes.map((axis) => text(axis, line.at[axis])).join(", ");
  }

  /** Colour and marker say the loss, dashes the rest; with one loss they say the rest. */
  function styleOf(line, lines, index) {
    if (baseline(line.at.loss)) return data.styles[line.at.loss];
    const own = lines.filter((other) => !baseline(other.at.loss));
    const axes = differing(own);
    if (!axes.includes("loss")) {
      return axes.join() === "pairing" ? data.styles[line.at.pairing] : data.numbered[index % data.numbered.length];
    }
    const among = own.filter((other) => other.at.loss === line.at.loss).findIndex((other) => same(other, line, Object.keys(study.axes)));
    const style = data.styles[line.at.loss];
    if (axes.length === 1) return style;
    const { dashes } = data.numbered[among % data.numbered.length];
    return { ...style, dashes, hollow: among >= new Set(data.numbered.map((one) => String(one.dashes))).size };
  }

  // ---- how they are shown ----

  const digits = (number, sign = choice.shown !== "score") => {
    if (number === null) return "-";
    const shown = study.scores[choice.score].fraction ? number.toFixed(2) : String(Number(number.toPrecision(4)));
    return sign && number >= 0 ? `+${shown}` : shown;
  };
  const unit = () => (study.scores[choice.score].fraction ? (choice.shown === "score" ? " %" : " points") : "");
  const between = (p) => (p.low === null || p.low === undefined ? "" : `[${digits(p.low)}, ${digits(p.high)}]`);
  const axisTitle = () => (choice.shown === "score" ? choice.score : `${choice.score}, ${SHOWN[choice.shown]}`) + (unit() && `,${unit()}`);

  function make(tag, attributes = {}, ...children) {
    const svg = ["svg", "path", "g", "text", "title"].includes(tag);
    const made = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  /** A few round numbers that hold both ends. */
  function ticks(low, high) {
    const rough = (high - low || Math.abs(high) || 1) / 5;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
    const first = Math.floor(low / step + 1e-9), last = Math.ceil(high / step - 1e-9);
    return Array.from({ length: Math.max(last - first, 1) + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  }

  function draw(lines) {
    const width = Math.max(280, Math.min(part("plot").clientWidth, 860)), height = Math.min(400, 180 + width / 3);
    const known = lines.flatMap((line) => line.points.filter((p) => p.value !== null));
    const svg = make("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${axisTitle()} against rho: ${lines.map((line) => line.name).join("; ")}. The numbers follow.` });
    part("plot").replaceChildren(svg);
    if (!known.length) return;
    const ends = known.flatMap((p) => [p.value, p.low ?? p.value, p.high ?? p.value]);
    if (choice.shown !== "score") ends.push(0);  // is the difference one?
    const marks = ticks(Math.min(...ends), Math.max(...ends));
    const label = (mark) => String(mark).replace("-", "−");
    const box = { left: 26 + 7 * Math.max(...marks.map((mark) => label(mark).length)), right: width - 14, top: 10, bottom: height - 42 };
    const rhos = [...new Set([...lines.flatMap((line) => line.points.map((p) => p.rho)), ...(choice.shown === "exposure" ? [] : [0])])].sort((a, b) => a - b);
    const share = (rho) => (rhos.length > 1 ? (rho - rhos[0]) / (rhos.at(-1) - rhos[0]) : 0.5);
    const x = (rho) => box.left + 18 + share(rho) * (box.right - box.left - 36);
    const y = (value) => box.bottom - ((value - marks[0]) / (marks.at(-1) - marks[0])) * (box.bottom - box.top);
    const write = (words, more) => svg.append(make("text", more, words));
    for (const mark of marks) {
      svg.append(make("path", { d: `M${box.left} ${y(mark)}H${box.right}`, class: mark === 0 && choice.shown !== "score" ? "zero" : "grid" }));
      write(label(mark), { x: box.left - 6, y: y(mark) + 4, "text-anchor": "end" });
    }
    let free = -Infinity;  // the left end of the room for the next label
    for (const rho of rhos) {
      svg.append(make("path", { d: `M${x(rho)} ${box.bottom}v4`, class: "tick" }));
      if (x(rho) - 3.6 * String(rho).length > free) {
        write(String(rho), { x: x(rho), y: box.bottom + 17, "text-anchor": "middle" });
        free = x(rho) + 3.6 * String(rho).length + 4;
      }
    }
    write("noisy-pairs rate rho", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" });
    write(axisTitle(), { x: 12, y: (box.top + box.bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 12 ${(box.top + box.bottom) / 2})` });
    const curves = lines.filter((line) => line.at.pairing).length;  // they come first
    lines.forEach((line, index) => {
      const shift = (index - (curves - 1) / 2) * Math.min(5, 24 / curves);  // so that bars are side by side
      const at = (p) => x(p.rho) + (p.rho > 0 ? shift : 0);
      const group = make("g", { class: "line", style: `color:${line.style.colour}` });
      if (!line.at.pairing) {  // a level
        const p = line.points[0];
        if (p.value !== null) group.append(stroke(`M${box.left} ${y(p.value)}H${box.right}`, line.style), tip(line, p, box.right - 8, y(p.value)));
      } else {
        let d = "", pen = "M";
        for (const p of line.points) {
          if (p.value !== null) d += `${pen}${at(p)} ${y(p.value)}`;
          pen = p.value === null ? "M" : "L";  // a cell without a value leaves a gap
        }
        group.append(stroke(d, line.style));
        for (const p of line.points.filter((each) => each.value !== null)) {
          if (p.low !== null) group.append(make("path", { d: `M${at(p)} ${y(p.low)}V${y(p.high)}m-3 0h6M${at(p) - 3} ${y(p.low)}h6`, class: "bar" }));
          group.append(tip(line, p, at(p), y(p.value)));
        }
      }
      svg.append(group);
    });
  }

  const stroke = (d, style) => make("path", { d, class: "curve", "stroke-dasharray": style.dashes.map((length) => 2 * length).join(" ") });

  const marker = (style) => (style.hollow ? "marker hollow" : "marker");  // dashes repeat after a few lines of a loss

  /** A marker that says its numbers when pointed at. */
  function tip(line, p, x, y) {
    const seeds = p.n ? `, ${p.n} seed${p.n === 1 ? "" : "s"}` : "";
    const said = `${line.name}, rho ${p.rho}: ${digits(p.value)}${unit()} ${between(p)}${seeds}`;
    const shape = SHAPES[line.style.marker] ?? (line.at.pairing ? SHAPES.o : "");
    return make("path", { d: shape, class: marker(line.style), transform: `translate(${x} ${y})` }, make("title", {}, said));
  }

  function legend(lines) {
    part("legend").replaceChildren(...lines.map((line) => {
      const swatch = make("svg", { width: 34, height: 12, viewBox: "0 0 34 12", "aria-hidden": "true", style: `color:${line.style.colour}` },
        stroke("M1 6H33", line.style), make("path", { d: SHAPES[line.style.marker] ?? "", class: marker(line.style), transform: "translate(17 6)" }));
      return make("li", {}, swatch, line.name);
    }));
  }

  function numbers(lines) {
    const row = (cells, tag, more = {}) => make("tr", {}, ...cells.map((words, i) => make(tag, { ...more, ...(i ? {} : { class: "text" }) }, words)));
    const head = ["curve", "rho", axisTitle(), `${study.level} interval`, "seeds"];
    const rows = lines.flatMap((line) => line.points.map((p) => {
      const given = p.value === null ? ["no value", "", ""] : [digits(p.value), between(p) || "-", p.n || "-"];
      return row([line.name, String(p.rho), ...given.map(String)], "td");
    }));
    part("numbers").replaceChildren(make("thead", {}, row(head, "th", { scope: "col" })), make("tbody", {}, ...rows));
  }

  function show() {
    const fitting = chosenLines(), lines = fitting.slice(0, MOST_LINES);
    const absent = lines.flatMap((line) => line.points).filter((p) => p.value === null).length;
    const says = [`${fitting.length} curve${fitting.length === 1 ? "" : "s"}`];
    if (fitting.length > lines.length) says.push(`the first ${lines.length} are shown: choose fewer`);
    if (absent) says.push(`${absent} cell${absent === 1 ? " has" : "s have"} no value`);
    if (!fitting.length) says[0] = "No cell fits the choice: choose another value in each group";
    part("says").textContent = `${says.join("; ")}.`;
    part("meaning").textContent = `${choice.score}: ${study.scores[choice.score].meaning}. Bars are ${study.level} intervals over seeds.`;
    draw(lines);
    legend(lines);
    numbers(lines);
  }

  // ---- the choices ----

  function select(name, options, value) {
    const made = make("select", { name }, ...options.map(([key, words]) => make("option", { value: key }, words)));
    made.value = value;
    return made;
  }

  function controls() {
    const labelled = (words, field) => make("label", { class: "field" }, words, field);
    const shown = Object.entries(SHOWN).filter(([name]) => has(name, choice.score));
    if (!shown.some(([name]) => name === choice.shown)) choice.shown = shown[0]?.[0] ?? "score";
    const fields = [];
    if (data.studies.length > 1) {
      fields.push(labelled("Study", select("study", data.studies.map((one, i) => [i, one.title]), data.studies.indexOf(study))));
    }
    fields.push(labelled("Score", select("score", Object.keys(study.scores).map((name) => [name, name]), choice.score)));
    fields.push(labelled("Show", select("shown", shown, choice.shown)));
    for (const [axis, values] of Object.entries(study.axes).filter(([, found]) => found.length > 1)) {
      const boxes = values.map((value, i) => {
        const box = make("input", { type: "checkbox", name: axis, value: i });
        box.checked = choice[axis].includes(value);
        return make("label", {}, box, axis === "loss" || axis === "pairing" ? data.names[value] : String(value));
      });
      fields.push(make("fieldset", {}, make("legend", {}, HEADS[axis] ?? axis), ...boxes));
    }
    part("controls").replaceChildren(...fields);
  }

  function changed(event) {
    const field = event.target;
    if (field.name === "study") {
      study = data.studies[Number(field.value)];
      choice = initial();
      controls();
      part("controls").elements.study.focus();
    } else if (field.type === "checkbox") {
      const boxes = [...part("controls").querySelectorAll("input")].filter((box) => box.name === field.name);
      choice[field.name] = study.axes[field.name].filter((_, i) => boxes[i].checked);
    } else {
      choice[field.name] = field.value;
      if (field.name === "score") {  // another score may not have all that can be shown
        controls();
        part("controls").elements.score.focus();
      }
    }
    writeAddress();
    show();
  }

  function begin() {
    const asked = readAddress();
    if (!asked) choice = initial();
    controls();
    show();
    if (asked) root.scrollIntoView();
  }

  root.hidden = false;
  part("controls").addEventListener("change", changed);
  part("controls").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("resize", () => show());
  addEventListener("hashchange", () => { if (location.hash.includes("=")) begin(); });
  begin();
}
