// Dead letters by kind: how many, whether they still come, in which states, and what to type.

import { html } from "/assets/preact-htm.js";
import { ago, many, whole } from "/assets/format.js";
import { Sparkline } from "/assets/charts.js";
import { useAnswer } from "/assets/live.js";
import { Command } from "/assets/panels.js";

// Of a whole group: asked for only where there are some, or where they are looked at alone.
export function GroupLetters({ group, turn, nowMs }) {
  const { data, error } = useAnswer("/api/groups/" + encodeURIComponent(group) + "/dead-letters", turn);
  if (!data) return html`<p class="hint">${error || "Reading …"}</p>`;
  return html`<${Kinds} kinds=${data.kinds} nowMs=${data.at_ms || nowMs} />`;
}

export function Kinds({ kinds, nowMs }) {
  if (kinds === null) return html`<p class="hint">This role may not read them.</p>`;
  if (kinds.length === 0) return html`<p class="hint">None.</p>`;
  return html`<ul class="kinds">${kinds.map((kind) => html`<${Kind} key=${kind.kind} kind=${kind} nowMs=${nowMs} />`)}</ul>`;
}

function Kind({ kind, nowMs }) {
  const stored = kind.trend.reduce((sum, count) => sum + count, 0);
  const states = Object.entries(kind.states).map(([state, count]) => whole(count) + " " + state).join(", ");
  return html`<li class=${"kind " + (kind.waiting === "0" ? "calm" : "waits")} data-kind=${kind.kind}>
    <p class="kind-head"><b>${kind.reason}</b></p>
    <p><span class="kind-states">${states}</span> <${Sparkline} values=${kind.trend} />
      <span class=${stored ? "tone-text-warn" : "hint"}>${stored ? whole(stored) + " in the last 30 minutes" : "none in the last 30 minutes"}</span></p>
    <p class="hint">kind ${kind.kind}${kind.sqlstate ? ", SQLSTATE " + kind.sqlstate : ""}${kind.handler ? ", handler " + kind.handler : ""},
      ${" "}${many(kind.topics.length, "topic")} (${kind.topics.join(", ")}), first ${ago(kind.first_at_ms, nowMs)}, last ${ago(kind.last_at_ms, nowMs)}</p>
    ${kind.waiting !== "0" && html`<details><summary>What to type</summary>
      <ol class="steps">${kind.advice.map((step) => html`<li key=${step.command}><p>${step.what}</p><${Command} text=${step.command} /></li>`)}</ol></details>`}
  </li>`;
}
