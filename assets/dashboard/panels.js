// The panels of a group, and the list of groups.

import { html, useState } from "/assets/preact-htm.js";
import { ago, many, rate, short, shortSpan, span, whole } from "/assets/format.js";
import { Badge } from "/assets/grid.js";
import { Sparkline } from "/assets/charts.js";
import { go, href } from "/assets/live.js";

export const MARK_SECONDS = 10;

// The three questions, and which of them is it.
export function Verdict({ group, place }) {
  const found = group.diagnosis;
  const lamps = [
    ["heatmap", "Partition", "Which partition?", found.partition, "none alone"],
    ["trajectory", "Throughput", "Is capacity short?", found.throughput, "no"],
    ["workers", "Consumer", "Is somebody wedged?", found.consumer, "nobody"],
  ];
  const well = !found.partition && !found.throughput && !found.consumer;
  return html`<section class=${"verdict " + (well ? "is-well" : "is-ill")} aria-label="Verdict">
    <p class="headline" role="status">${found.headline}</p>
    <ol class="lamps">
      ${lamps.map(([panel, name, question, sentence, calm]) => html`<li key=${panel} class=${"lamp " + (sentence ? "lit" : "calm")}>
        <a href=${href({ ...place, panel })}><span class="lamp-sign" aria-hidden="true">${sentence ? "!" : "✓"}</span>
        <span class="lamp-name">${name}</span> <span class="lamp-question">${question}</span>
        <span class="lamp-sentence">${sentence || calm}</span></a></li>`)}
    </ol>
    ${found.notes.length > 0 && html`<ul class="notes">${found.notes.map((note) => html`<li key=${note}>${note}</li>`)}</ul>`}
  </section>`;
}

export function NextSteps({ steps }) {
  return html`<section class="card next" aria-labelledby="next-title"><h2 id="next-title">What next</h2>
    <ol class="steps">${steps.map((step) => html`<li key=${step.what + step.command}><p>${step.what}</p>
      ${step.command && html`<${Command} text=${step.command} />`}</li>`)}</ol></section>`;
}

export function Command({ text }) {
  const [copied, setCopied] = useState(false);
  const copy = async (event) => {
    const code = event.currentTarget.parentNode.querySelector("code");
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without TLS a browser gives no clipboard: what is selected can be copied by hand.
      window.getSelection().selectAllChildren(code);
      if (!document.execCommand("copy")) return;
    }
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return html`<div class="command"><code tabindex="0">${text}</code>
    <button type="button" onClick=${copy} aria-label=${"Copy: " + text}>${copied ? "Copied" : "Copy"}</button></div>`;
}

export function UnitSwitch({ place }) {
  const unit = (name) => html`<button type="button" aria-pressed=${String(place.unit === name)}
    onClick=${() => go(href({ ...place, unit: name }), true)}>${name}</button>`;
  return html`<div class="switch" role="group" aria-label="Lag in">${unit("records")}${unit("seconds")}</div>`;
}

export function Workers({ workers, nowMs }) {
  const seen = workers.filter((worker) => worker.live || worker.partitions > 0);
  const gone = workers.length - seen.length;
  if (!seen.length) return html`<p class="hint">No worker is live${gone ? "; " + many(gone, "worker") + " stopped within 30 minutes" : ""}.</p>`;
  const most = Math.max(...seen.map((worker) => Math.max(worker.deadline_seconds, worker.since_commit_seconds))) * 1.06;
  const at = (seconds) => Math.min(100, (100 * seconds) / most) + "%";
  const deadline = Math.max(...seen.map((worker) => worker.deadline_seconds));
  const sorted = [...seen].sort((a, b) => b.since_commit_seconds - a.since_commit_seconds || (a.host + a.process_id < b.host + b.process_id ? -1 : 1));
  return html`<div class="workers">
    <div class="bar-scale" aria-hidden="true"><span style=${{ left: "0%" }}>0</span>
      <span style=${{ left: at(MARK_SECONDS) }}>${MARK_SECONDS} s</span><span class="at-deadline" style=${{ left: at(deadline) }}>deadline ${span(deadline)}</span></div>
    <ul>${sorted.map((worker) => html`<${WorkerBar} key=${worker.owner} worker=${worker} at=${at} nowMs=${nowMs} />`)}</ul>
    ${gone > 0 && html`<p class="hint">${many(gone, "worker")} stopped within 30 minutes.</p>`}
  </div>`;
}

function WorkerBar({ worker, at, nowMs }) {
  const since = worker.since_commit_seconds;
  const tone = !worker.live ? "bad" : since >= worker.deadline_seconds ? "bad" : since >= MARK_SECONDS ? "warn" : "well";
  const last = worker.committed_at_ms ? "last commit " + ago(worker.committed_at_ms, nowMs) : "no commit yet";
  const doing = !worker.live ? "gone: last heartbeat " + ago(worker.heartbeat_at_ms, nowMs)
    : worker.behind === 0 ? "idle, " + last : span(since) + " without a commit" + (since < 1 ? "" : ", of " + span(worker.deadline_seconds) + " that a batch may take" + (worker.slowest ? " (" + worker.slowest + ")" : ""));
  const name = worker.instance_id || worker.host + " pid " + worker.process_id;
  return html`<li class=${"worker tone-" + tone} data-worker=${worker.owner}>
    <p><b>${name}</b> <span>${many(worker.partitions, "partition")}</span>
      ${!worker.ready && worker.live && html`<span class="tone-text-warn">not ready</span>`}
      <span class="worker-doing">${tone === "well" ? "" : tone === "warn" ? "▲ " : "■ "}${doing}</span></p>
    <div class="bar" aria-hidden="true"><i class="bar-fill" style=${{ width: at(since) }}></i>
      <i class="bar-mark" style=${{ left: at(MARK_SECONDS) }}></i><i class="bar-deadline" style=${{ left: at(worker.deadline_seconds) }}></i></div>
    ${worker.detail && html`<p class="reason">${worker.detail}</p>`}
    <p class="hint">${worker.host}, process ${worker.process_id}, ${worker.program} ${worker.version}</p></li>`;
}

export function Fleet({ data, place }) {
  const [text, setText] = useState("");
  const groups = data.groups;
  const ill = groups.filter((group) => !group.well).length;
  const only = place.only === "ill";
  const wanted = groups.filter((group) => (!only || !group.well) && group.group.toLowerCase().includes(text.toLowerCase()));
  const headline = groups.length === 0 ? "There is no group in this database yet."
    : ill === 0 ? (groups.length === 1 ? "The group is well." : "All " + groups.length + " groups are well.")
    : groups.length === 1 ? "The group is not well."
    : ill + " of " + groups.length + " groups" + (ill === 1 ? " is" : " are") + " not well.";
  return html`<section class=${"verdict " + (ill ? "is-ill" : "is-well")} aria-label="Verdict"><div role="status"><h1 class="headline">${headline}</h1></div></section>
    <section class="card" aria-label="Groups">
      <div class="toolbar"><label>Find <input type="search" value=${text} onInput=${(event) => setText(event.target.value)} placeholder="group" /></label>
        <div class="switch" role="group" aria-label="Which groups">
          <button type="button" aria-pressed=${String(!only)} onClick=${() => go(href({ only: "" }), true)}>all ${groups.length}</button>
          <button type="button" aria-pressed=${String(only)} onClick=${() => go(href({ only: "ill" }), true)}>not well ${ill}</button></div></div>
      <div class="table-box" tabindex="0" role="region" aria-label="Table of groups"><table class="groups">
        <thead><tr><th scope="col">State</th><th scope="col">Group</th><th scope="col">Why</th><th scope="col" class="number">Lag</th>
          <th scope="col" class="number">Behind</th><th scope="col">30 min</th><th scope="col" class="number">In / out</th>
          <th scope="col" class="number">Drains in</th><th scope="col" class="number">Workers</th><th scope="col" class="number">No commit for</th>
          <th scope="col" class="number">Dead letters</th></tr></thead>
        <tbody>${wanted.map((group) => html`<${GroupRow} key=${group.group} group=${group} unit=${place.unit} />`)}</tbody></table></div>
      ${groups.length > 0 && wanted.length === 0 && html`<p class="hint">None of that name${only ? " that is not well" : ""}.</p>`}
    </section>`;
}

function GroupRow({ group, unit }) {
  const found = group.diagnosis;
  const which = [["partition", found.partition], ["throughput", found.throughput], ["consumer", found.consumer]].filter(([, sentence]) => sentence);
  const loss = typeof group.loss_seconds === "number" && group.loss_seconds < 6 * 3600;
  return html`<tr class=${group.well ? "" : "ill"} data-group=${group.group}>
    <td><${Badge} name=${group.class} /></td>
    <th scope="row"><a href=${href({ group: group.group, unit })}>${group.group}</a> <span class="hint">${many(group.partitions, "partition")}</span></th>
    <td class="why">${which.length === 0 ? html`<span class="hint">${found.headline.replace(/^Well: /, "")}</span>`
      : which.map(([name, sentence]) => html`<span class="why-line" key=${name}><b>${name}</b> ${sentence}</span>`)}
      ${loss && html`<span class="why-line tone-text-bad">Kafka deletes the next record in ${span(group.loss_seconds)}</span>`}</td>
    <td class="number" data-name="lag" title=${whole(group.lag_records)}>${short(group.lag_records)}</td>
    <td class="number" data-name="behind">${shortSpan(group.lag_seconds)}</td>
    <td data-name="30 min"><${Sparkline} values=${group.trend} /></td>
    <td class="number" data-name="in / out">${rate(group.produced_per_second)} / ${rate(group.applied_per_second)}</td>
    <td class="number" data-name="drains in">${group.lag_records === "0" ? "–" : shortSpan(group.drain_seconds)}</td>
    <td class=${"number" + (group.live_workers === 0 ? " tone-text-bad" : "")} data-name="workers">${group.live_workers}</td>
    <td class=${"number" + (group.since_commit_seconds >= MARK_SECONDS ? " tone-text-bad" : "")} data-name="no commit for">${shortSpan(group.since_commit_seconds)}</td>
    <td class="number" data-name="dead letters">${group.dead_letters === null ? "?" : short(group.dead_letters)}</td></tr>`;
}
