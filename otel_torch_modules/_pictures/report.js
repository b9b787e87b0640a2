"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const element = (id) => document.getElementById(id);
  const phases = data.phases;
  const colours = phases.map((phase) => {
    const probe = document.createElement("i");
    probe.className = phase;
    document.body.append(probe);
    const colour = getComputedStyle(probe).getPropertyValue("--of").trim();
    probe.remove();
    return colour;
  });
  const theme = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const mixed = (a, b, share) => rgb(a).map((part, at) => part + (rgb(b)[at] - part) * share);
  const css = (parts) => `rgb(${parts.map(Math.round).join(" ")})`;
  const light = (parts) => parts
    .map((part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const inkOn = (parts) => light(parts) > 0.179 ? "#000" : "#fff"; // whichever contrasts more
  const digits = (value) => value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1)
    : value >= 1 ? value.toFixed(2) : value.toFixed(3);
  const time = (ms) => ms >= 10000 ? `${(ms / 1000).toFixed(1)} s` : `${digits(ms)} ms`;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const FONT = '12px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';

  const pictures = [];
  // Every picture is a canvas of some height that draws itself, knows what is at a point, and is walked by keys.
  const picture = (id, height, draw) => {
    const canvas = element(id);
    const paint = () => {
      const scale = devicePixelRatio || 1, width = canvas.clientWidth;
      canvas.style.height = `${height()}px`;
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height() * scale);
      const pen = canvas.getContext("2d");
      pen.scale(scale, scale);
      pen.font = FONT;
      pen.textBaseline = "middle";
      draw(pen, width, height());
    };
    pictures.push(paint);
    return [canvas, paint];
  };
  const repaint = () => pictures.forEach((paint) => paint());
  const onKeys = (canvas, keys) => canvas.addEventListener("keydown", (event) => {
    const act = event.altKey || event.ctrlKey || event.metaKey ? undefined : keys[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });
  const outlined = (pen, x, y, width, height) => {
    pen.lineWidth = 2;
    pen.strokeStyle = theme("--page");
    pen.strokeRect(x - 1, y - 1, width + 2, height + 2);
    pen.strokeStyle = theme("--text");
    pen.strokeRect(x, y, width, height);
  };

  // Flame charts.
  const { titles, steps: flames } = data.flames;
  const rank = data.flames.rank === null ? "" : ` of rank ${data.flames.rank}`;
  const ROW = 22, LEAST = 0.4; // px
  const FLAME_HINT = "Click a span, or Enter, to zoom; Esc for the whole step; arrows walk; the wheel zooms once a chart is clicked.";
  const said = element("flames-said");
  const charts = [];
  let view = null; // part of the scale that is shown, in ms; null: all of it
  const scaleEnd = () => Math.max(...charts.map((chart) => chart.end));
  const shown = () => view || [0, scaleEnd()];
  const zoomTo = (from, to) => {
    const end = scaleEnd();
    const length = clamp(to - from, end / 1e6, end);
    from = clamp(from, 0, end - length);
    view = length >= end * 0.9999 ? null : [from, from + length];
    element("whole").disabled = !view;
    charts.forEach((chart) => chart.paint());
  };
  const flame = (id) => {
    const chart = { at: -1 };
    const show = (which, words) => {
      const step = flames[which], unit = step.unit, number = step.number;
      chart.number = number;
      chart.step = step;
      chart.at = -1;
      chart.spans = step.spans.map(([depth, start, length, own, name, phase]) => (
        { depth, from: start * unit, to: (start + length) * unit, ms: length * unit, own: own * unit, name: titles[name], phase }));
      // Its device is through with a step later than the program.
      chart.end = chart.spans.reduce((last, span) => Math.max(last, span.to), step.ms);
      chart.rows = 1 + chart.spans.reduce((most, span) => Math.max(most, span.depth), 0);
      const left = step.left ? ` · the ${step.left} shortest spans are not drawn` : "";
      element(`${id}-title`).textContent = `${words} ${number}${rank} · ${time(step.ms)}${left}`;
    };
    const label = (span) => span.name.replace(/^(forward|backward|recompute) .*?([^.]+(\.\d+)?|)$/, (all, phase, last) => last || all);
    const [canvas, paint] = picture(id, () => chart.rows * ROW + 2, (pen, width) => {
      const [from, to] = shown(), scale = width / (to - from), page = theme("--page");
      chart.spans.forEach((span, at) => {
        const x = Math.max((span.from - from) * scale, -1), end = Math.min((span.to - from) * scale, width + 1);
        if (end < 0 || x > width || end - x < LEAST && at !== chart.at) return;
        const colour = mixed(colours[span.phase], page, Math.min(0.09 * Math.max(span.depth - 1, 0), 0.36));
        const y = span.depth * ROW + 1, wide = Math.max(end - x - (end - x > 3 ? 1 : 0), 0.5);
        pen.fillStyle = css(colour);
        pen.fillRect(x, y, wide, ROW - 2);
        if (wide > 26) {
          const room = wide - 10, text = label(span), whole = `${text}  ${digits(span.ms)}`;
          let written = pen.measureText(whole).width <= room ? whole : text;
          if (pen.measureText(written).width > room) {
            let length = written.length;
            while (length && pen.measureText(`${written.slice(0, length)}…`).width > room) length--;
            written = length > 1 ? `${written.slice(0, length)}…` : "";
          }
          pen.fillStyle = inkOn(colour);
          pen.fillText(written, Math.max(x, 0) + 5, y + ROW / 2 - 0.5);
        }
      });
      const focused = chart.spans[chart.at];
      if (focused) {
        const x = clamp((focused.from - from) * scale, 1, width - 3);
        const end = clamp((focused.to - from) * scale, x + 2, width - 1);
        outlined(pen, x, focused.depth * ROW + 1, end - x, ROW - 2);
      }
    });
    const tell = (span) => {
      said.textContent = span
        ? `${span.name} · ${time(span.ms)} · own ${time(span.own)} · ${(100 * span.ms / chart.step.ms).toFixed(1)} % of step ${chart.number} · begins at ${time(span.from)}`
        : FLAME_HINT;
    };
    const go = (at) => {
      if (at < 0 || at >= chart.spans.length) return;
      chart.at = at;
      const span = chart.spans[at], [from, to] = shown();
      if (view && (span.to < from || span.from > to)) zoomTo(span.from - (to - from) / 4, span.from + (to - from) * 3 / 4);
      paint();
      tell(span);
    };
    const beside = (way) => {
      const depth = (chart.spans[chart.at] || { depth: 0 }).depth;
      let at = chart.at + way;
      while (chart.spans[at] && chart.spans[at].depth !== depth) at += way;
      go(chart.spans[at] ? at : chart.at);
    };
    const above = () => {
      let at = chart.at;
      while (at > 0 && chart.spans[at].depth >= chart.spans[chart.at].depth) at--;
      go(Math.max(at, 0));
    };
    const below = () => {
      const next = chart.spans[chart.at + 1];
      if (chart.at < 0 || next && next.depth > chart.spans[chart.at].depth) go(chart.at + 1);
    };
    const point = (event) => {
      const box = canvas.getBoundingClientRect(), [from, to] = shown();
      return [from + (event.clientX - box.left) / box.width * (to - from), Math.floor((event.clientY - box.top - 1) / ROW)];
    };
    const under = (event) => {
      const [ms, depth] = point(event);
      return chart.spans.findIndex((span) => span.depth === depth && span.from <= ms && ms < span.to);
    };
    const zoom = () => {
      const span = chart.spans[chart.at];
      if (span) zoomTo(span.from, span.to);
    };
    canvas.addEventListener("mousemove", (event) => tell(chart.spans[under(event)]));
    canvas.addEventListener("mouseleave", () => tell(chart.spans[chart.at]));
    canvas.addEventListener("click", (event) => { go(under(event)); zoom(); });
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas && !event.ctrlKey) return;
      event.preventDefault();
      const [from, to] = shown(), [ms] = point(event);
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        const by = event.deltaX / canvas.clientWidth * (to - from);
        zoomTo(from + by, to + by);
      } else {
        const factor = Math.exp(clamp(event.deltaY, -200, 200) / 400);
        zoomTo(ms - (ms - from) * factor, ms + (to - ms) * factor);
      }
    }, { passive: false });
    canvas.addEventListener("focus", () => { if (chart.at < 0 && canvas.matches(":focus-visible")) go(0); });
    onKeys(canvas, {
      ArrowRight: () => beside(1), ArrowLeft: () => beside(-1), ArrowUp: above, ArrowDown: below, Enter: zoom,
      Home: () => go(0), End: () => go(chart.spans.length - 1), Escape: () => zoomTo(0, Infinity),
    });
    return Object.assign(chart, { show, paint });
  };
  const usual = flame("usual"), other = flame("other");
  usual.show(data.flames.usual, "The usual step:");
  other.show(data.flames.slowest, "The slowest step:");
  charts.push(usual, other);
  said.textContent = FLAME_HINT;
  element("whole").addEventListener("click", () => zoomTo(0, Infinity));
  const showStep = (which) => {
    if (!flames[which]) return false;
    other.show(which, which === data.flames.slowest ? "The slowest step:" : "Step");
    zoomTo(0, Infinity);
    return true;
  };

  // Steps over time.
  const bars = data.bars, count = bars.ms.length;
  const sorted = [...bars.ms].sort((a, b) => a - b);
  const top = Math.min(sorted[count - 1], Math.max(4 * bars.usual, sorted[Math.floor(0.98 * (count - 1))] * 1.1)) * 1.04;
  const isCut = (at) => bars.ms[at] > top;
  const others = bars.ms.map((ms, at) => Math.max(ms - bars.parts.reduce((sum, part) => sum + part[at], 0), 0));
  const stack = [...bars.parts, others];
  const BARS_HINT = bars.stride > 1
    ? `Each bar is the slowest of ${bars.stride} steps. Click one, or walk with the arrows and press Enter, to see it below.`
    : "Click a step, or walk with the arrows and press Enter, to see it below. Marked ones are not as usual.";
  const CUT_HINT = bars.ms.some((ms, at) => isCut(at)) ? " A bar with a gap is longer than drawn, its phases in proportion." : "";
  const barsSaid = element("bars-said");
  let bar = -1, chosen = -1;
  const HEAD = 22;
  const gap = (pen, x, y, across) => {
    const rise = Math.min(across / 2, 4);
    pen.fillStyle = theme("--page");
    pen.beginPath();
    pen.moveTo(x, y + rise);
    pen.lineTo(x + across, y - rise);
    pen.lineTo(x + across, y - rise + 4);
    pen.lineTo(x, y + rise + 4);
    pen.fill();
  };
  const [barCanvas, paintBars] = picture("bars", () => 190, (pen, width, height) => {
    const wide = width / count, room = height - HEAD - 1, y = (ms) => height - 1 - ms / top * room;
    const columns = Math.min(count, Math.floor(width * (devicePixelRatio || 1)));
    for (let column = 0; column < columns; column++) {
      // Where there are more steps than columns, the slowest of a column stands for it.
      let at = Math.floor(column * count / columns);
      const next = Math.floor((column + 1) * count / columns);
      for (let one = at; one < next; one++) if (bars.ms[one] > bars.ms[at]) at = one;
      const x = column * width / columns, space = width / columns > 4 ? 1 : 0, across = width / columns - space;
      const shrunk = isCut(at) ? top / bars.ms[at] : 1;
      let base = 0;
      stack.forEach((part, phase) => {
        if (part[at] <= 0) return;
        const long = part[at] * shrunk, upper = y(Math.min(base + long, top)), lower = y(Math.min(base, top));
        pen.fillStyle = colours[phase];
        pen.fillRect(x, upper, across, lower - upper);
        base += long;
      });
      if (isCut(at)) gap(pen, x, y(0.9 * top), across);
    }
    pen.fillStyle = theme("--mark");
    for (const at of Object.keys(bars.odd)) {
      const x = clamp((+at + 0.5) * wide, 4, width - 4), tip = Math.max(y(Math.min(bars.ms[at], top)) - 3, 10);
      pen.beginPath();
      pen.moveTo(x, tip);
      pen.lineTo(x - 4, tip - 7);
      pen.lineTo(x + 4, tip - 7);
      pen.fill();
    }
    pen.strokeStyle = theme("--text");
    pen.lineWidth = 1;
    pen.setLineDash([4, 3]);
    pen.beginPath();
    pen.moveTo(0, y(bars.usual));
    pen.lineTo(width, y(bars.usual));
    pen.stroke();
    pen.setLineDash([]);
    pen.lineWidth = 4;
    pen.lineJoin = "round";
    pen.strokeStyle = theme("--page");
    pen.fillStyle = theme("--text");
    pen.textAlign = "right";
    for (const draw of ["strokeText", "fillText"]) pen[draw](`╌╌ usually ${time(bars.usual)}`, width - 4, 8);
    pen.textAlign = "left";
    for (const at of [chosen, bar]) {
      if (at >= 0) outlined(pen, clamp(at * wide, 1, width - 4), y(Math.min(bars.ms[at], top)) - 1, Math.max(wide - 1, 3), height - y(Math.min(bars.ms[at], top)));
    }
  });
  const words = (at) => {
    const parts = stack.map((part, phase) => [part[at], phases[phase]]).filter(([ms]) => ms >= 0.005 * bars.ms[at]);
    const split = parts.map(([ms, phase]) => `${phase} ${digits(ms)}`).join(", ");
    const odd = bars.odd[at] ? ` · ${bars.odd[at]}` : "";
    const cut = isCut(at) ? " · longer than drawn" : "";
    return `Step ${bars.numbers[at]} · ${time(bars.ms[at])}${cut} · ${split}${odd}`;
  };
  const tellBar = (at) => { barsSaid.textContent = at >= 0 && at < count ? words(at) : BARS_HINT + CUT_HINT; };
  const goBar = (at) => { bar = clamp(at, 0, count - 1); paintBars(); tellBar(bar); };
  const choose = (at) => {
    chosen = at;
    goBar(at);
    const number = bars.numbers[at];
    if (!showStep(bars.at[at])) barsSaid.textContent = `${words(at)} · its spans are not in this page: otel-torch-modules view --step ${number}`;
  };
  const barUnder = (event) => {
    const box = barCanvas.getBoundingClientRect();
    return clamp(Math.floor((event.clientX - box.left) / box.width * count), 0, count - 1);
  };
  barCanvas.addEventListener("mousemove", (event) => tellBar(barUnder(event)));
  barCanvas.addEventListener("mouseleave", () => tellBar(bar));
  barCanvas.addEventListener("click", (event) => choose(barUnder(event)));
  barCanvas.addEventListener("focus", () => { if (bar < 0 && barCanvas.matches(":focus-visible")) goBar(0); });
  const oddOnes = Object.keys(bars.odd).map(Number);
  onKeys(barCanvas, {
    ArrowRight: () => goBar(bar + 1), ArrowLeft: () => goBar(bar - 1), Home: () => goBar(0), End: () => goBar(count - 1),
    ArrowUp: () => goBar(oddOnes.find((at) => at > bar) ?? bar), ArrowDown: () => goBar(oddOnes.findLast((at) => at < bar) ?? bar),
    Enter: () => choose(Math.max(bar, 0)), Escape: () => { bar = chosen = -1; paintBars(); tellBar(-1); },
  });
  tellBar(-1);

  // Ranks against steps.
  const heat = data.heat;
  if (heat) {
    const heatSaid = element("heat-said"), across = heat.numbers.length, down = heat.ranks.length;
    const LABELS = 54;
    const HINT = "Orange worked longer than the others in that step, blue shorter; what is gray did not send it.";
    let cell = null;
    const tall = () => down * clamp(Math.floor(420 / down), 2, 20);
    const most = Math.max(...heat.rows.flat().map((value) => Math.abs(value || 0)), 1);
    const full = clamp(most, 10, 50); // percent
    const [canvas, paint] = picture("heat", tall, (pen, width, height) => {
      const wide = (width - LABELS) / across, high = height / down, page = theme("--page");
      heat.rows.forEach((row, of) => {
        row.forEach((value, at) => {
          pen.fillStyle = value === null ? theme("--line")
            : css(mixed(page, colours[phases.indexOf(value > 0 ? "backward" : "forward")], 0.06 + 0.94 * Math.min(Math.abs(value) / full, 1)));
          pen.fillRect(LABELS + at * wide, of * high, wide + 0.4, high - (high > 5 ? 1 : 0));
        });
        if (high >= 14 || of % Math.ceil(14 / high) === 0) {
          pen.fillStyle = theme("--soft");
          pen.fillText(`rank ${heat.ranks[of]}`, 0, Math.min(of * high + Math.max(high, 14) / 2, height - 7));
        }
      });
      if (cell) outlined(pen, LABELS + cell[1] * wide, cell[0] * high, Math.max(wide, 3), Math.max(high - 1, 2));
    });
    const tell = (at) => {
      if (!at) { heatSaid.textContent = HINT; return; }
      const value = heat.rows[at[0]][at[1]];
      const step = heat.stride > 1 ? `steps from ${heat.numbers[at[1]]} on` : `step ${heat.numbers[at[1]]}`;
      const much = value === null ? "not there" : value ? `${Math.abs(value)} % ${value > 0 ? "longer" : "shorter"} than the ranks' median` : "as long as the ranks' median";
      heatSaid.textContent = `Rank ${heat.ranks[at[0]]}, ${step}: ${much}`;
    };
    const under = (event) => {
      const box = canvas.getBoundingClientRect();
      const at = Math.floor((event.clientX - box.left - LABELS) / (box.width - LABELS) * across);
      return at < 0 ? null : [clamp(Math.floor((event.clientY - box.top) / box.height * down), 0, down - 1), clamp(at, 0, across - 1)];
    };
    const go = (of, at) => { cell = [clamp(of, 0, down - 1), clamp(at, 0, across - 1)]; paint(); tell(cell); };
    const pick = () => {
      const at = cell && bars.at.indexOf(heat.at[cell[1]]);
      if (cell && at >= 0) choose(at);
    };
    canvas.addEventListener("mousemove", (event) => tell(under(event)));
    canvas.addEventListener("mouseleave", () => tell(cell));
    canvas.addEventListener("click", (event) => { const at = under(event); if (at) { go(...at); pick(); } });
    canvas.addEventListener("focus", () => { if (!cell && canvas.matches(":focus-visible")) go(0, 0); });
    const from = () => cell || [0, 0];
    onKeys(canvas, {
      ArrowRight: () => go(from()[0], from()[1] + 1), ArrowLeft: () => go(from()[0], from()[1] - 1),
      ArrowDown: () => go(from()[0] + 1, from()[1]), ArrowUp: () => go(from()[0] - 1, from()[1]),
      Enter: pick, Escape: () => { cell = null; paint(); tell(null); },
    });
    tell(null);
  }

  // Findings lead to their pictures.
  for (const link of document.querySelectorAll(".findings a")) {
    link.addEventListener("click", () => {
      const { step, place } = link.dataset;
      // Of several steps of one number a finding is about one that is not as usual.
      const same = bars.numbers.flatMap((number, at) => (step !== undefined && number === +step ? [at] : []));
      const at = same.find((one) => bars.odd[one]) ?? same[0] ?? -1;
      if (at >= 0) choose(at);
      document.querySelectorAll("tr.chosen").forEach((row) => row.classList.remove("chosen"));
      if (place !== undefined) document.querySelector(`tr[data-place="${CSS.escape(place)}"]`)?.classList.add("chosen");
    });
  }
  element("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    repaint();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  new ResizeObserver(repaint).observe(document.querySelector("main"));
  document.documentElement.dataset.drawn = "true";
})();
