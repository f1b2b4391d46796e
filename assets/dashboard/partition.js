// One partition: where it stands, who applied what, what went wrong.

import { html } from "/assets/preact-htm.js";
import { ago, dayAndClock, span, whole } from "/assets/format.js";
import { Badge } from "/assets/grid.js";
import { href, useAnswer } from "/assets/live.js";
import { Kinds } from "/assets/letters.js";
import { NextSteps } from "/assets/panels.js";

export function Partition({ place, turn }) {
  const url = "/api/groups/" + [place.group, "partitions", place.topic, place.partition].map(encodeURIComponent).join("/");
  const { data, error } = useAnswer(url, turn);
  const back = html`<p><a href=${href({ group: place.group, unit: place.unit })}>← ${place.group}</a></p>`;
  if (!data) return html`${back}<h1>${place.topic}:${place.partition}</h1><p>${error || "Reading …"}</p>`;
  const at = data.partition;
  return html`${back}
    ${error && html`<p class="banner" role="alert">${error}</p>`}
    <h1 class="partition-title">${at.topic}:${at.partition} <${Badge} name=${at.class} /></h1>
    ${at.reason && html`<p class="lead">${at.reason}</p>`}
    <section class="card" aria-labelledby="position-title"><h2 id="position-title">Position</h2>
      <${Position} at=${at} />
      <dl class="facts">
        <${Fact} name="Next record" value=${whole(at.next_offset)} id="next-offset" />
        <${Fact} name="Lag" value=${whole(at.lag_records) + " records"} id="lag" />
        <${Fact} name="Behind" value=${span(at.lag_seconds)} />
        <${Fact} name="Drains in" value=${at.lag_records === "0" ? "caught up" : span(at.drain_seconds)} />
        <${Fact} name="Loss in" value=${at.loss_seconds === null ? "unknown" : span(at.loss_seconds)} />
        <${Fact} name="Hidden by open transactions" value=${whole(at.uncommitted_records) + (at.uncommitted_seconds ? ", for " + span(at.uncommitted_seconds) : "")} />
        <${Fact} name="Log" value=${whole(at.log_start_offset) + " to " + whole(at.log_end_offset) + ", stable to " + whole(at.last_stable_offset)} />
        <${Fact} name="Last commit" value=${ago(at.committed_at_ms, data.at_ms)} />
        <${Fact} name="Held by" value=${at.owner || "nobody"} />
        <${Fact} name="Claim" value=${"number " + whole(at.epoch) + ", since " + dayAndClock(at.claimed_at_ms)} />
        <${Fact} name="Seen" value=${ago(at.as_of_ms, data.at_ms)} />
      </dl></section>
    ${at.detail && html`<section class="card" aria-labelledby="error-title"><h2 id="error-title">${at.state === "halted" ? "Error" : "Its worker says"}</h2>
      <pre class="detail" tabindex="0">${at.detail}</pre><p class="hint">${at.state}, since ${dayAndClock(at.state_since_ms)}</p></section>`}
    <${NextSteps} steps=${data.advice} />
    ${data.letter_kinds !== null && data.letter_kinds.length > 0 && html`<section class="card" id="kinds" aria-labelledby="kinds-title"><h2 id="kinds-title">Dead letters by kind</h2>
      <${Kinds} kinds=${data.letter_kinds} nowMs=${data.at_ms} /></section>`}
    <${Rows} title="Dead letters" rows=${data.dead_letters} none="None." columns=${[
      ["Offset", (row) => whole(row.record_offset), true], ["State", (row) => row.state], ["SQLSTATE", (row) => row.sqlstate || "–"],
      ["Why", (row) => row.reason], ["Tried", (row) => row.attempts, true], ["Last", (row) => dayAndClock(row.last_at_ms)]]} />
    <${Rows} title="What was done to it" rows=${data.deeds} none="Nobody has moved or held it." columns=${[
      ["When", (row) => dayAndClock(row.at_ms)], ["What", (row) => row.what], ["Who", (row) => row.actor], ["Why", (row) => row.reason],
      ["From", (row) => (row.from_offset === null ? "–" : whole(row.from_offset)), true], ["To", (row) => (row.to_offset === null ? "–" : whole(row.to_offset)), true]]} />
    <${Rows} title="Ledger: who has applied what" rows=${data.ledger} none="No claim has ended yet." columns=${[
      ["Claim", (row) => whole(row.epoch), true], ["From", (row) => whole(row.claimed_offset), true], ["To", (row) => whole(row.end_offset), true],
      ["Records", (row) => whole(row.applied_records), true], ["Batches", (row) => whole(row.applied_batches), true],
      ["Whose", (row) => row.instance_id || row.owner || "an operator's"], ["Began", (row) => dayAndClock(row.claimed_at_ms)], ["Ended", (row) => dayAndClock(row.replaced_at_ms)]]} />`;
}

const Fact = ({ name, value, id }) => html`<div><dt>${name}</dt><dd id=${id}>${value}</dd></div>`;

function Position({ at }) {
  const known = [at.log_start_offset, at.next_offset, at.last_stable_offset, at.log_end_offset];
  if (known.some((offset) => offset === null)) return html`<p class="hint">Where Kafka's log begins and ends, nobody has said yet.</p>`;
  // A picture: here a rounded number will do.
  const [start, next, stable, end] = known.map(Number);
  const all = Math.max(1, end - Math.min(start, next));
  const part = (size) => Math.max(0, (100 * size) / all) + "%";
  return html`<div class="position" role="img" aria-label=${"Applied up to " + whole(at.next_offset) + " of " + whole(at.log_end_offset)}>
    <i class="position-applied" style=${{ width: part(next - start) }}></i><i class="position-lag" style=${{ width: part(stable - next) }}></i>
    <i class="position-hidden" style=${{ width: part(end - Math.max(stable, next)) }}></i></div>
    <p class="legend" aria-hidden="true"><span><i class="swatch position-applied"></i>applied, and still in Kafka</span><span><i class="swatch position-lag"></i>waits</span>
      <span><i class="swatch position-hidden"></i>hidden by open transactions</span></p>`;
}

function Rows({ title, rows, none, columns }) {
  const id = title.toLowerCase().replace(/[^a-z]+/g, "-");
  return html`<section class="card" aria-labelledby=${id}><h2 id=${id}>${title}</h2>
    ${rows === null ? html`<p class="hint">This role may not read it.</p>` : rows.length === 0 ? html`<p class="hint">${none}</p>` : html`
    <div class="table-box" tabindex="0" role="region" aria-label=${"Table: " + title}><table><thead><tr>${columns.map(([name, , isNumber]) => html`<th scope="col" key=${name} class=${isNumber ? "number" : ""}>${name}</th>`)}</tr></thead>
      <tbody>${rows.map((row, index) => html`<tr key=${index}>${columns.map(([name, value, isNumber]) => html`<td key=${name} class=${isNumber ? "number" : ""}>${value(row)}</td>`)}</tr>`)}</tbody></table></div>`}
  </section>`;
}
