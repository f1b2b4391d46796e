// The heat map: a grid for keyboards and screen readers, 64 partitions in a row where there is room for them.

import { html, useLayoutEffect, useRef, useState } from "/assets/preact-htm.js";
import { ago, classOf, heat, short, shortSpan, span, whole } from "/assets/format.js";
import { go, href } from "/assets/live.js";

const LONG_UNSEEN_MS = 30000;

const columnsFor = (width) => (width >= 1000 ? 64 : width >= 560 ? 32 : width >= 440 ? 16 : 8);

function rowsOf(partitions, columns) {
  const rows = [];
  let last = null;
  for (const partition of partitions) {
    if (!last || last.topic !== partition.topic || last.cells.length === columns) {
      last = { topic: partition.topic, isFirst: !last || last.topic !== partition.topic, cells: [] };
      rows.push(last);
    }
    last.cells.push(partition);
  }
  return rows;
}

export function describe(cell, atMs) {
  const name = classOf(cell.class);
  const lag = cell.lag_records === null ? "lag unknown" : whole(cell.lag_records) + " records, " + span(cell.lag_seconds) + " behind";
  const unseen = isUnseen(cell, atMs) ? ", last seen " + ago(cell.as_of_ms, atMs) : "";
  return cell.topic + " partition " + cell.partition + ": " + lag + ", " + cell.class + " (" + name.words + ")" + unseen;
}

const isUnseen = (cell, atMs) => cell.as_of_ms === null || atMs - cell.as_of_ms > LONG_UNSEEN_MS;

export function HeatMap({ group, partitions, unit, atMs }) {
  const box = useRef(null);
  const [columns, setColumns] = useState(64);
  const [active, setActive] = useState({ row: 0, column: 0 });
  const moved = useRef(false);
  useLayoutEffect(() => {
    const fit = () => box.current && setColumns(columnsFor(box.current.clientWidth));
    fit();
    const observer = new ResizeObserver(fit);
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  const rows = rowsOf(partitions, columns);
  const row = Math.min(active.row, rows.length - 1);
  const column = Math.min(active.column, Math.max(0, (rows[row] ? rows[row].cells.length : 1) - 1));
  // With the commit that moved it, never after a frame: the effect of an earlier commit, still to come when the key is
  // pressed, would take the move for its own and leave the focus where it is.
  useLayoutEffect(() => {
    if (!moved.current) return;
    moved.current = false;
    const cell = box.current.querySelector('[tabindex="0"]');
    if (cell) cell.focus();
  });

  const move = (toRow, toColumn) => {
    const bounded = Math.max(0, Math.min(rows.length - 1, toRow));
    moved.current = true;
    setActive({ row: bounded, column: Math.max(0, Math.min(rows[bounded].cells.length - 1, toColumn)) });
  };
  const key = (event) => {
    const end = rows[row].cells.length - 1;
    const steps = {
      ArrowRight: [row, column + 1], ArrowLeft: [row, column - 1], ArrowDown: [row + 1, column], ArrowUp: [row - 1, column],
      Home: [event.ctrlKey ? 0 : row, 0], End: [event.ctrlKey ? rows.length - 1 : row, event.ctrlKey ? Infinity : end],
      PageDown: [row + 8, column], PageUp: [row - 8, column],
    };
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      open(rows[row].cells[column]);
    } else if (steps[event.key]) {
      event.preventDefault();
      move(...steps[event.key]);
    }
  };
  const open = (cell) => go(href({ group, topic: cell.topic, partition: cell.partition, unit }));
  const shown = rows[row] && rows[row].cells[column];

  return html`<div class="heatmap" ref=${box}>
    <div role="grid" aria-label=${"Lag per partition in " + unit} aria-rowcount=${rows.length} aria-colcount=${columns}
         class=${"grid columns-" + columns} onKeyDown=${key}>
      ${rows.map((line, y) => html`<div class="grid-block" key=${line.topic + line.cells[0].partition} role="presentation">
        ${line.isFirst && html`<div class="grid-topic" aria-hidden="true">${line.topic}</div>`}
        <div role="row" aria-rowindex=${y + 1} class="grid-row">
          ${line.cells.map((cell, x) => html`<${Cell} key=${cell.partition} cell=${cell} unit=${unit} atMs=${atMs}
            isActive=${y === row && x === column} column=${x + 1}
            onPoint=${() => setActive({ row: y, column: x })} onOpen=${() => open(cell)} />`)}
        </div></div>`)}
    </div>
    ${shown && html`<${Shown} cell=${shown} group=${group} unit=${unit} atMs=${atMs} />`}
    <${Legend} unit=${unit} />
  </div>`;
}

function Cell({ cell, unit, atMs, isActive, column, onPoint, onOpen }) {
  const name = classOf(cell.class);
  const value = unit === "seconds" ? cell.lag_seconds : cell.lag_records;
  const text = unit === "seconds" ? (typeof value === "number" && value < 1 ? "0" : shortSpan(value)) : short(value);
  const unseen = isUnseen(cell, atMs) ? " unseen" : "";
  return html`<div role="gridcell" tabindex=${isActive ? 0 : -1} aria-colindex=${column}
      class=${"cell heat-" + heat(value, unit) + " tone-" + name.tone + unseen}
      data-place=${cell.topic + ":" + cell.partition} title=${describe(cell, atMs)}
      onFocus=${onPoint} onClick=${onOpen}>
    <span class="for-ears">${describe(cell, atMs)}</span>
    <span class="cell-top" aria-hidden="true">${name.glyph === "·" ? cell.partition : name.glyph}</span>
    <span class=${"cell-value" + (text.length > 3 ? " long" : text.length > 2 ? " middling" : "")} aria-hidden="true">${text}</span>
  </div>`;
}

function Shown({ cell, group, unit, atMs }) {
  const to = href({ group, topic: cell.topic, partition: cell.partition, unit });
  return html`<p class="shown">
    <a href=${to}>${cell.topic}:${cell.partition}</a>
    <${Badge} name=${cell.class} />
    <span>${whole(cell.lag_records)} records</span>
    <span>${span(cell.lag_seconds)} behind</span>
    <span>next ${whole(cell.next_offset)}</span>
    ${isUnseen(cell, atMs) && html`<span class="tone-text-warn">last seen ${ago(cell.as_of_ms, atMs)}</span>`}
    ${cell.reason && html`<span class="reason">${cell.reason}</span>`}
  </p>`;
}

export function Badge({ name }) {
  const found = classOf(name);
  return html`<span class=${"badge tone-" + found.tone} title=${found.words}><span aria-hidden="true">${found.glyph}</span>${" " + name}</span>`;
}

const LABELS = { records: ["<1k", "<10k", "<50k", "<100k", "<1M", "≥1M"], seconds: ["<10s", "<1m", "<5m", "<15m", "<1h", "≥1h"] };

function Legend({ unit }) {
  return html`<p class="legend" aria-hidden="true">
    ${LABELS[unit].map((label, level) => html`<span key=${level}><i class=${"swatch heat-" + level}></i>${label}</span>`)}
    <span><i class="swatch heat-unknown"></i>unknown</span>
    <span class="legend-glyphs">▲ grows  ■ stall  × unsampled  ↶ rewind  ‖ halted  ¦ paused  ○ no owner  † dead owner  ↓ draining</span>
  </p>`;
}
