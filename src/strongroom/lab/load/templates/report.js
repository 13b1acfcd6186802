"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const root = document.documentElement;
  const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [4, 2, 1, 2], [14, 5]];
  const MARKS = ["solid", "dashed", "dotted", "dashed", "dotted", "dashed"];
  const PERCENTILES = [[0, "0"], [0.30103, "50"], [1, "90"], [2, "99"], [3, "99.9"],
    [4, "99.99"], [5, "99.999"], [6, "99.9999"]];
  const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
  const PRINTED_PX = 640, HEIGHT_PX = 240, NARROW_PX = 480;
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const grouped = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
  const said = (value) => value == null ? ""
    : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : grouped.format(value);

  const percentile = (nines) => {
    const there = PERCENTILES.find(([at]) => Math.abs(at - nines) < 1e-3);
    return there ? there[1] : String(+(100 * (1 - 10 ** -nines)).toPrecision(6));
  };
  const clock = (value) => {
    const s = Math.round(value), rest = String(s % 60).padStart(2, "0");
    return s < 60 ? `${s} s` : `${Math.floor(s / 60)}:${rest}`;
  };

  // Thresholds, drawn across the chart.
  const limits = (lines) => ({ hooks: { draw: [(plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.textAlign = "left"; ctx.textBaseline = "bottom";
    ctx.strokeStyle = ctx.fillStyle = colour("--bad");
    ctx.lineWidth = devicePixelRatio;
    for (const { at, says } of lines) {
      const y = plot.valToPos(at, "y", true);
      if (y < bbox.top || y > bbox.top + bbox.height) continue;
      ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
      ctx.beginPath(); ctx.moveTo(bbox.left, y); ctx.lineTo(bbox.left + bbox.width, y); ctx.stroke();
      ctx.fillText(says, bbox.left + 6 * devicePixelRatio, y - 4 * devicePixelRatio);
    }
    ctx.restore();
  }] } });

  const draw = (chart, place, width) => {
    const muted = colour("--muted"), line = colour("--line");
    const axis = { stroke: muted, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 },
      font: "12px system-ui, sans-serif" };
    const data = chart.tables.length > 1 ? uPlot.join(chart.tables) : chart.tables[0];
    const most = data[0][data[0].length - 1];
    const nines = PERCENTILES.filter(([at]) => at <= Math.ceil(most));
    const narrow = width < NARROW_PX;
    return new uPlot({
      width, height: narrow ? 200 : HEIGHT_PX,
      padding: [12, 12, 0, 0],
      cursor: { y: false, drag: { x: true, y: false } },
      legend: { markers: { width: 2, dash: (plot, n) => chart.series[n - 1] ? MARKS[chart.series[n - 1].dash % 6] : "solid" } },
      scales: {
        x: chart.percentiles ? { time: false, range: [0, Math.max(1, most)] } : { time: false },
        y: chart.log ? { distr: 3 } : { range: (plot, low, high) => [0, high > 0 ? high * 1.08 : 1] },
      },
      axes: [
        { ...axis, size: 34, ...(chart.percentiles
          ? { splits: () => nines.map(([at]) => at), values: (plot, all) => all.map((at) => at === 0.30103 && narrow ? "" : percentile(at)) }
          : { incrs: SECONDS, values: (plot, all) => all.map(clock) }) },
        { ...axis, size: 64, values: (plot, all) => all.map((value) => said(value)),
          grid: { ...axis.grid, filter: (plot, all) => all.map((at) => chart.log && Math.log10(at) % 1 ? null : at) } },
      ],
      series: [
        { label: "",
          value: (plot, x) => x == null ? "" : chart.percentiles ? percentile(x) : clock(x) },
        ...chart.series.map((one) => ({
          label: one.label, stroke: colour(`--s${one.colour}`), width: 2,
          dash: DASHES[one.dash % DASHES.length], points: { show: data[0].length < 2 },
          value: (plot, value) => said(value),
        })),
      ],
      plugins: chart.limits && chart.limits.length ? [limits(chart.limits)] : [],
    }, data, place);
  };

  const drawn = new Map();
  const drawAll = (width) => {
    for (const chart of charts) {
      const place = document.getElementById(`plot-${chart.id}`);
      const before = drawn.get(chart.id);
      if (before) before.destroy();
      drawn.set(chart.id, draw(chart, place, width || Math.max(200, place.clientWidth)));
    }
  };

  drawAll();
  let wide = root.clientWidth;
  addEventListener("resize", () => {
    if (root.clientWidth !== wide) { wide = root.clientWidth; drawAll(); }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());
  addEventListener("beforeprint", () => { root.dataset.print = ""; drawAll(PRINTED_PX); });
  addEventListener("afterprint", () => { delete root.dataset.print; drawAll(); });
})();
