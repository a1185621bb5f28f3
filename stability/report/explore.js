"use strict";
// Sorts and filters the table of eigenvalues and draws what it shows: hover, zoom, switch point and sector.
(() => {
  const table = document.getElementById("eigenvalues");
  if (!table) return;
  const body = table.tBodies[0];
  const known = [...body.rows].map((row) => {
    const d = row.dataset;
    return { row, point: d.point, space: d.space, irrep: d.irrep, value: +d.value, residual: +d.residual,
      multiplicity: d.multiplicity ? +d.multiplicity : null, sign: d.sign, known: true };
  });
  const rest = JSON.parse(document.getElementById("rest").textContent).map((r) => ({ ...r, irrep: "", known: false,
    point: known.length ? known[0].point : "", sign: r.value < 0 ? "negative" : "positive" }));
  const $ = (id) => document.getElementById(id);
  const distinct = (key) => [...new Set(known.map((r) => r[key]))];
  const fill = (select, values, all) => {
    for (const [value, text] of [["", all], ...values.map((v) => [v, v])]) select.add(new Option(text, value));
  };
  const points = distinct("point");
  fill($("point"), points, "all points");
  $("point").value = points[0] || "";
  fill($("space"), distinct("space"), "everywhere");
  fill($("irrep"), distinct("irrep"), "all sectors");
  fill($("sign"), distinct("sign"), "any sign");
  if (distinct("space").includes("E⊥")) $("space").value = "E⊥";
  $("controls").hidden = false;
  $("plot").hidden = false;

  const keeps = (r) => ["point", "space", "irrep", "sign"].every((k) => !$(k).value || r[k] === $(k).value);
  const found = (r) => {
    const text = $("search").value.trim().toLowerCase();
    return !text || (r.known && r.row.textContent.toLowerCase().includes(text));
  };
  const shown = () => known.filter((r) => keeps(r) && found(r));

  // ---- the table
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((h) => h.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (r) => {
        const cell = r.row.cells[column];
        return cell.dataset.n === undefined ? cell.textContent : cell.dataset.n === "" ? Infinity : +cell.dataset.n;
      };
      const order = (a, b) => { const x = key(a), y = key(b); return x < y ? -1 : x > y ? 1 : 0; };
      known.sort((a, b) => (up ? order(a, b) : order(b, a)));
      body.append(...known.map((r) => r.row));
    });
  });

  // ---- the plot
  const svg = $("plot").querySelector("svg");
  const NS = "http://www.w3.org/2000/svg";
  let W = 900;
  const H = 420, L = 86, R = 16, T = 14, B = 46;
  let items = [], view = null, current = -1, threshold = 1, box = null;
  const make = (name, attributes, text) => {
    const node = document.createElementNS(NS, name);
    for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
    if (text !== undefined) node.textContent = text;
    svg.append(node);
    return node;
  };
  const squash = (v) => Math.sign(v) * Math.log10(1 + Math.abs(v) / threshold);
  const stretch = (u) => Math.sign(u) * threshold * (10 ** Math.abs(u) - 1);
  const x = (k) => L + ((k - view.k0) / (view.k1 - view.k0)) * (W - L - R);
  const y = (v) => H - B - ((squash(v) - view.u0) / (view.u1 - view.u0)) * (H - T - B);
  const format = (v) => {
    if (v === 0) return "0";
    const a = Math.abs(v);
    return (a >= 1e-2 && a < 1e5 ? String(+v.toPrecision(6)) : v.toExponential(3)).replace(/-/g, "−");
  };
  const tick = (v) => (v === 0 ? "0" : Math.abs(v) >= 1e-2 && Math.abs(v) < 1e5 ? String(+v.toPrecision(2)) :
    v.toExponential(1).replace(".0e", "e")).replace("+", "").replace(/-/g, "−");
  const inside = () => items.filter((r) => r.k >= view.k0 && r.k <= view.k1 && squash(r.value) >= view.u0 &&
    squash(r.value) <= view.u1);

  function collect() {
    items = [...shown(), ...($("irrep").value || $("search").value ? [] : rest.filter(keeps))];
    items.sort((a, b) => a.value - b.value);
    items.forEach((r, i) => { r.k = i + 1; });
    const sizes = items.map((r) => Math.abs(r.value)).filter((v) => v > 0).sort((a, b) => a - b);
    threshold = sizes.length ? 10 ** Math.floor(Math.log10(sizes[Math.floor(sizes.length / 100)])) : 1;
    const us = items.map((r) => squash(r.value));
    const low = Math.min(0, ...us), high = Math.max(0, ...us), room = 0.06 * (high - low || 1);
    view = { k0: 0, k1: items.length + 1, u0: low - room, u1: high + room };
    current = -1;
  }

  function ticks() {
    const all = [0];
    const top = Math.ceil(Math.max(Math.abs(view.u0), Math.abs(view.u1)));
    for (let p = 0; p <= top; p += 1) all.push(threshold * 10 ** p, -threshold * 10 ** p);
    const visible = all.filter((v) => squash(v) >= view.u0 && squash(v) <= view.u1).sort((a, b) => a - b);
    const apart = visible.filter((v) => v === 0 || Math.abs(y(v) - y(0)) > 16 || view.u0 > 0 || view.u1 < 0);
    if (visible.length >= 3) return apart;
    return [0, 1, 2, 3, 4].map((i) => stretch(view.u0 + (i / 4) * (view.u1 - view.u0)));
  }

  function draw() {
    svg.replaceChildren();
    W = Math.max(300, Math.min(900, svg.clientWidth || 900));  // one unit a pixel at most: letters keep their size
    svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
    if (view.u0 < 0) {
      const top = Math.max(T, y(Math.min(0, stretch(view.u1))));
      make("rect", { x: L, y: top, width: W - L - R, height: H - B - top, class: "below" });
    }
    for (const v of ticks()) {
      make("line", { x1: L, x2: W - R, y1: y(v), y2: y(v), class: v === 0 ? "zero" : "grid" });
      make("text", { x: L - 6, y: y(v) + 4, "text-anchor": "end" }, tick(v));
    }
    const n = Math.max(1, Math.ceil((view.k1 - view.k0) / (W / 110)));
    for (let k = Math.ceil(view.k0 / n) * n; k <= view.k1; k += n) {
      if (k > 0) make("text", { x: x(k), y: H - B + 16, "text-anchor": "middle" }, k);
    }
    make("text", { x: (L + W) / 2, y: H - 8, "text-anchor": "middle" }, "eigenvalues shown, in ascending order");
    const label = make("text", { "text-anchor": "middle", transform: `translate(14 ${(T + H - B) / 2}) rotate(-90)` },
      "eigenvalue (per unit of squared weight)");
    label.id = "axis";
    for (const r of inside()) {
      const px = x(r.k), py = y(r.value), size = r.known ? 5 : 3;
      const shape = { negative: `M${px - size} ${py - size}h${2 * size}l${-size} ${2 * size}z`,
        positive: `M${px - size} ${py}a${size} ${size} 0 1 0 ${2 * size} 0a${size} ${size} 0 1 0 ${-2 * size} 0`,
        zero: `M${px - size} ${py - size}h${2 * size}v${2 * size}h${-2 * size}z` }[r.sign];
      if (r.known && r.residual > 0) {
        const a = y(r.value - r.residual), b = y(r.value + r.residual);
        if (Math.abs(a - b) > 2) make("line", { x1: px, x2: px, y1: a, y2: b, class: "bar" });
      }
      make("path", { d: shape, class: `${r.sign}${r.known ? "" : " rest"}` });
    }
    if (!items.length) make("text", { x: W / 2, y: H / 2, "text-anchor": "middle" }, "nothing fits the filter");
    if (items[current]) {
      make("circle", { cx: x(items[current].k), cy: y(items[current].value), r: 9, class: "ring" });
    }
    if (box) make("rect", { x: Math.min(box.a.x, box.b.x), y: Math.min(box.a.y, box.b.y),
      width: Math.abs(box.a.x - box.b.x), height: Math.abs(box.a.y - box.b.y), class: "box" });
    $("count").textContent = `${shown().length} of ${known.length} rows` +
      (items.some((r) => !r.known) ? `; ${items.filter((r) => !r.known).length} more eigenvalues drawn small` : "");
  }

  function tell(i) {
    current = i;
    const r = items[i];
    known.forEach((o) => o.row.classList.toggle("chosen", o === r));
    $("told").textContent = !r ? "Point at an eigenvalue, or use the arrow keys." :
      `${format(r.value)} ` + (r.known ? `± ${format(r.residual)}` : "(no residual of its own)") +
      (r.multiplicity ? `, multiplicity ${r.multiplicity}` : "") + (r.irrep ? `, irrep ${r.irrep}` : "") +
      `, on ${r.space}, ${r.sign}` + (points.length > 1 ? `, point ${r.point}` : "");
    draw();
  }
  const at = (event) => {
    const frame = svg.getBoundingClientRect();
    return { x: ((event.clientX - frame.left) / frame.width) * W, y: ((event.clientY - frame.top) / frame.height) * H };
  };
  function nearest(p) {
    let best = -1, least = 14 ** 2;
    for (const r of inside()) {
      const d = (x(r.k) - p.x) ** 2 + (y(r.value) - p.y) ** 2;
      if (d < least) { least = d; best = items.indexOf(r); }
    }
    return best;
  }
  function zoom(factor, p = { x: (L + W - R) / 2, y: (T + H - B) / 2 }) {
    const fx = (p.x - L) / (W - L - R), fy = (H - B - p.y) / (H - T - B);
    const k = view.k0 + fx * (view.k1 - view.k0), u = view.u0 + fy * (view.u1 - view.u0);
    const dk = (view.k1 - view.k0) * factor, du = (view.u1 - view.u0) * factor;
    view = { k0: k - fx * dk, k1: k + (1 - fx) * dk, u0: u - fy * du, u1: u + (1 - fy) * du };
    draw();
  }
  function refresh() {
    known.forEach((r) => { r.row.hidden = !(keeps(r) && found(r)); });
    collect();
    tell(-1);
  }
  svg.addEventListener("mousedown", (e) => { box = { a: at(e), b: at(e) }; e.preventDefault();
    svg.focus({ preventScroll: true }); });
  svg.addEventListener("mousemove", (e) => {
    if (box) { box.b = at(e); draw(); } else { const i = nearest(at(e)); if (i !== current) tell(i); }
  });
  window.addEventListener("resize", draw);
  window.addEventListener("mouseup", () => {
    if (!box) return;
    const { a, b } = box;
    box = null;
    if (Math.abs(a.x - b.x) > 8 && Math.abs(a.y - b.y) > 8) {
      const k = (px) => view.k0 + ((px - L) / (W - L - R)) * (view.k1 - view.k0);
      const u = (py) => view.u0 + ((H - B - py) / (H - T - B)) * (view.u1 - view.u0);
      view = { k0: k(Math.min(a.x, b.x)), k1: k(Math.max(a.x, b.x)), u0: u(Math.max(a.y, b.y)), u1: u(Math.min(a.y, b.y)) };
    }
    draw();
  });
  svg.addEventListener("dblclick", refresh);
  svg.addEventListener("wheel", (e) => { if (e.ctrlKey || document.activeElement === svg) {
    e.preventDefault(); zoom(e.deltaY > 0 ? 1.25 : 0.8, at(e)); } }, { passive: false });
  svg.addEventListener("keydown", (e) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[e.key];
    if (step && items.length) {
      e.preventDefault();
      tell(Math.min(items.length - 1, Math.max(0, current + step)));
    } else if (e.key === "+") zoom(0.8); else if (e.key === "-") zoom(1.25); else if (e.key === "Escape") refresh();
  });
  $("closer").addEventListener("click", () => zoom(0.6));
  $("wider").addEventListener("click", () => zoom(1 / 0.6));
  $("reset").addEventListener("click", refresh);
  for (const id of ["point", "space", "irrep", "sign", "search"]) $(id).addEventListener("input", refresh);
  refresh();
})();
