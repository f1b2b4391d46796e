// Trajectories by uPlot, with one cursor, and the axis of events under them.

import { html, useEffect, useLayoutEffect, useRef, useState } from "/assets/preact-htm.js";
import uPlot from "/assets/uplot.js";
import { clock, rate, short, shortSpan, span } from "/assets/format.js";

export const WINDOW_MS = 30 * 60 * 1000;
const AXIS = 58; // px, left of every chart: the events stand under what they explain
const RIGHT = 14;

const dark = window.matchMedia("(prefers-color-scheme: dark)");
export function useTheme() {
  const [theme, setTheme] = useState(dark.matches);
  useEffect(() => {
    const changed = () => setTheme(dark.matches);
    dark.addEventListener("change", changed);
    return () => dark.removeEventListener("change", changed);
  }, []);
  return theme;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

// `series`: [{ label, colour, dash, fill, values }], `marks`: moments in ms.
// Steps of an axis of time: tenths, seconds, minutes, hours, days.
const SPANS = [0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800, 2592000, 31536000];

export function Chart({ label, summary, times, series, format, steps, endMs, marks, height }) {
  const box = useRef(null);
  const plot = useRef(null);
  const latest = useRef(marks);
  latest.current = marks;
  const theme = useTheme();
  const window_ = [(endMs - WINDOW_MS) / 1000, endMs / 1000];
  const range = useRef(window_);
  range.current = window_;
  const data = [times.map((ms) => ms / 1000), ...series.map((line) => line.values)];

  useLayoutEffect(() => {
    const grid = { stroke: colour("line"), width: 1 };
    const axis = { stroke: colour("ink-soft"), grid, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const options = {
      width: Math.max(200, box.current.clientWidth), height,
      padding: [8, RIGHT, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "highwater" }, drag: { x: false, y: false }, y: false, points: { size: 7 } },
      scales: { x: { time: true, range: () => range.current }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.12 : 1] } },
      axes: [
        { ...axis, space: 70, values: (_, ticks) => ticks.map((s) => clock(s * 1000).slice(0, 5)), size: 26 },
        { ...axis, size: AXIS, space: 34, values: (_, ticks) => ticks.map(format), ...(steps && { incrs: steps }) },
      ],
      series: [{}, ...series.map((line) => ({
        label: line.label, stroke: colour(line.colour), width: 2, dash: line.dash, spanGaps: false,
        fill: line.fill && colour(line.fill), points: { show: data[0].length < 2, size: 5 },
      }))],
      hooks: { draw: [(u) => drawMarks(u, latest.current)] },
    };
    plot.current = new uPlot(options, data, box.current);
    const observer = new ResizeObserver(() => plot.current && plot.current.setSize({ width: Math.max(200, box.current.clientWidth), height }));
    observer.observe(box.current);
    return () => {
      observer.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [theme, height, series.map((line) => line.label).join()]);
  useEffect(() => plot.current && plot.current.setData(data), [times.length && times[times.length - 1], endMs, label]);
  return html`<div class="chart" role="img" aria-label=${label + ". " + summary} ref=${box}></div>`;
}

function drawMarks(u, marks) {
  u.ctx.save();
  u.ctx.strokeStyle = colour("mark");
  u.ctx.setLineDash([3, 3]);
  for (const ms of marks || []) {
    const x = Math.round(u.valToPos(ms / 1000, "x", true));
    if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
    u.ctx.beginPath();
    u.ctx.moveTo(x, u.bbox.top);
    u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
    u.ctx.stroke();
  }
  u.ctx.restore();
}

export function Trajectory({ history, events, unit, endMs }) {
  const times = history.map((point) => point.at_ms);
  const seconds = unit === "seconds";
  const lag = history.map((point) => (seconds ? point.lag_seconds : point.lag_records === null ? null : Number(point.lag_records)));
  const produced = history.map((point) => point.produced_per_second);
  const applied = history.map((point) => point.applied_per_second);
  const marks = events.filter((event) => event.kind !== "claim").map((event) => event.at_ms);
  const last = history[history.length - 1] || {};
  const lagNow = seconds ? span(last.lag_seconds) : short(last.lag_records) + " records";
  const rates = rate(last.produced_per_second) + " produced, " + rate(last.applied_per_second) + " applied";
  const began = times.length ? times[0] : endMs;
  return html`<div class="trajectory">
    <p class="chart-title"><b>Lag</b> <span class="now">${lagNow}</span></p>
    <${Chart} label=${"Lag in " + unit + " over 30 minutes"} summary=${"Now " + lagNow} times=${times} endMs=${endMs} marks=${marks} height=${150}
      format=${seconds ? shortSpan : short} steps=${seconds ? SPANS : undefined} series=${[{ label: "lag " + unit, colour: "lag", fill: "lag-fill", values: lag }]} />
    <p class="chart-title"><b>Rates</b>
      <span class="key"><i class="key-produced"></i>produced ${rate(last.produced_per_second)}</span>
      <span class="key"><i class="key-applied"></i>applied ${rate(last.applied_per_second)}</span></p>
    <${Chart} label="Offsets produced and applied each second over 30 minutes" summary=${"Now " + rates} times=${times} endMs=${endMs}
      marks=${marks} height=${130} format=${short} series=${[
        { label: "produced", colour: "produced", values: produced },
        { label: "applied", colour: "applied", dash: [7, 4], values: applied },
      ]} />
    <p class="chart-title"><b>Events</b></p>
    <${EventAxis} events=${events} endMs=${endMs} />
    ${endMs - began < WINDOW_MS - 60000 && html`<p class="hint">Known since ${clock(began)}, when this dashboard began to look: let it run.</p>`}
  </div>`;
}

const GLYPHS = { move: "↷", lost: "✗", order: "✎", halt: "‖", claim: "⇄", start: "△", deploy: "◆", stop: "▽", death: "†" };

const placed = (ms, endMs) => Math.max(0, Math.min(100, 100 * (1 - (endMs - ms) / WINDOW_MS))) + "%";

// Under the charts, on their axis.
export function EventAxis({ events, endMs }) {
  return html`<div class="axis" aria-hidden="true">
    ${[0, 5, 10, 15, 20, 25, 30].map((minutes) => html`<span class="tick" key=${minutes} style=${{ left: 100 - minutes / 0.3 + "%" }}>${minutes ? "−" + minutes + " min" : "now"}</span>`)}
    ${events.map((event, index) => html`<span key=${event.at_ms + event.what + index} class=${"event kind-" + event.kind} style=${{ left: placed(event.at_ms, endMs) }}
      title=${clock(event.at_ms) + " " + sentence(event)}>${GLYPHS[event.kind] || "•"}</span>`)}
  </div>`;
}

const FEW = 8;

export function EventList({ events }) {
  const [all, setAll] = useState(false);
  if (events.length === 0) return html`<p class="hint">Nothing in the last 30 minutes: no claim, no reset, no halt, no deploy.</p>`;
  const shown = all ? events : events.slice(0, FEW);
  return html`<div class="events"><ol class="event-list">
      ${shown.map((event, index) => html`<li key=${event.at_ms + event.what + index}><time>${clock(event.at_ms)}</time>
        <span class=${"event-glyph kind-" + event.kind} aria-hidden="true">${GLYPHS[event.kind] || "•"}</span>
        <span>${sentence(event)}</span></li>`)}
    </ol>
    ${events.length > FEW && html`<button type="button" onClick=${() => setAll(!all)}>${all ? "Fewer" : "All " + events.length}</button>`}</div>`;
}

function sentence(event) {
  const where = event.place ? event.place + (event.partitions > 1 ? " and " + (event.partitions - 1) + " more" : "") : "";
  const reason = event.reason ? ": " + event.reason : "";
  const words = {
    claim: () => event.actor + " claimed " + where,
    start: () => event.actor + " started" + reason,
    deploy: () => event.actor + " started in a new version" + reason,
    stop: () => event.actor + " stopped",
    death: () => event.actor + " is gone" + reason,
    halt: () => where + " halted" + reason,
  };
  return (words[event.kind] || (() => event.what + " of " + where + " by " + event.actor + reason))();
}

export function Sparkline({ values }) {
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return html`<span class="hint">–</span>`;
  // What is next to nothing looks like it: ten seconds, or ten records.
  const most = Math.max(...known, 10);
  const step = 78 / Math.max(1, values.length - 1);
  const points = values.map((value, index) => (value === null ? null : [1 + index * step, 19 - 17 * (value / most)])).filter(Boolean);
  const path = points.map(([x, y]) => x.toFixed(1) + "," + y.toFixed(1)).join(" ");
  return html`<svg class="spark" viewBox="0 0 80 20" width="80" height="20" aria-hidden="true"><polyline points=${path} /></svg>`;
}
