// What of the page's reading is pure: run by tests/browser/test_pure.py with `node --test`.

import assert from "node:assert/strict";
import { test } from "node:test";

const at = new URL("../../../server/web/reading/", import.meta.url);
const load = (name) => import(new URL(name, at));
const { lastAtOrBefore } = await load("ordered.js");
const { clock, roundStep, spoken } = await load("../times.js");
const { cut } = await load("../pieces.js");
const { matchesIn, pieceAt } = await load("matches.js");
const { PEAKS_PER_S, loudness, pyramid, writePeaks } = await load("peaks.js");
const { Scale, grow, touching } = await load("scale.js");
const { Transcript } = await load("transcript.js");
const { mp3Frames } = await load("mp3.js");
const { wavFormat } = await load("wav.js");

test("the last at or before a limit", () => {
  const found = (limit) => lastAtOrBefore([1, 2, 2, 5], limit);
  assert.deepEqual([0, 1, 1.5, 2, 4.9, 5, 99].map(found), [-1, 0, 0, 2, 2, 3, 3]);
  assert.equal(lastAtOrBefore([], 1), -1);
});

test("times are written and spoken", () => {
  assert.deepEqual([0, 7.99, 723, 3600, NaN, -1].map(clock), ["0:00", "0:07", "12:03", "1:00:00", "0:00", "0:00"]);
  assert.deepEqual([0, 1, 3723].map(spoken), ["0 seconds", "1 second", "1 hour 2 minutes 3 seconds"]);
  assert.deepEqual([0.01, 3, 61, 1e9].map(roundStep), [0.1, 5, 120, 14400]);
});

const joined = ({ pieces, tail }) => pieces.map(({ lead, text }) => lead + text).join("") + tail;

test("a text is cut at its words, and nothing of it is lost", () => {
  const cases = [
    [" Hello, (big) world - “yes.” ", ["Hello", "big", "world", "yes"], ["Hello,", "(big)", "world", "“yes.”"]],
    [" Hello, (big) world - “yes.” ", ["Hello,", "(big)", "world", "“yes.”"], ["Hello,", "(big)", "world", "“yes.”"]],
    ["你好，「世界」。", ["你好", "世界"], ["你好，", "「世界」。"]],
    ["¿Qué tal? -5 °C", ["Qué", "tal", "-5", "°C"], ["¿Qué", "tal?", "-5", "°C"]],
    [" a word more than heard", ["a", "word"], ["a", "word"]],
  ];
  for (const [text, words, pieces] of cases) {
    const found = cut(text, words);
    assert.deepEqual(found.pieces.map((piece) => piece.text), pieces);
    assert.equal(joined(found), text);
  }
  assert.equal(cut("Hello", ["world"]), null);
  assert.equal(cut("Hello", []), null);
});

const segment = (text, words = text.split(" ")) => ({
  type: "sotto.segment", id: 0, start: 0, end: words.length, text, tokens: [1],
  words: words.map((word, i) => ({ word, start: i, end: i + 1, probability: 0.4 })),
});

test("edits are undone and done again, in order", () => {
  const transcript = new Transcript();
  const { pieces } = transcript.add(segment("one two three"));
  const text = () => transcript.toJSON()[0]?.text;
  assert.equal(transcript.edit(pieces[0], " 1 \n 1 "), true);
  assert.equal(transcript.edit(pieces[1], "two"), false);
  transcript.edit(pieces[2], "3");
  assert.equal(text(), "1 1 two 3");
  transcript.undo();
  transcript.undo();
  assert.equal(transcript.undo(), null);
  assert.deepEqual(transcript.toJSON(), [{ ...segment("one two three"), type: undefined }].map(({ type, ...rest }) => rest));
  transcript.redo();
  assert.equal(text(), "1 1 two three");
  transcript.edit(pieces[1], "2");
  assert.equal(transcript.redo(), null);
  assert.equal(text(), "1 1 2 three");
});

test("words that the text has not: the segment is read as a whole, and keeps them until it is edited", () => {
  const transcript = new Transcript();
  const { pieces } = transcript.add(segment(" other text", ["one"]));
  assert.deepEqual(pieces.map((piece) => [piece.text, piece.end, piece.uncertain]), [["other text", 1, false]]);
  assert.equal(transcript.toJSON()[0].words.length, 1);
  transcript.edit(pieces[0], "new text");
  assert.deepEqual(transcript.toJSON()[0].words, []);
});

test("hits are found whatever the case, between words too, and signs are signs", () => {
  const transcript = new Transcript();
  const one = transcript.add(segment("Straße and C++. Ünder and", ["Straße", "and", "C++", "Ünder", "and"]));
  const found = (query) => matchesIn([one], query).map(({ from, to }) => one.text.slice(from, to));
  assert.deepEqual(found("AND"), ["and", "and"]);
  assert.deepEqual(found("c++.   ü"), ["C++. Ü"]);
  assert.deepEqual([found(" "), found("("), found("x")], [[], [], []]);
  assert.equal(pieceAt(one, one.text.indexOf("++")).text, "C++.");
});

test("peaks hold what is loud, at every level", () => {
  const samples = new Float32Array(8000);
  samples[4040] = -0.5;
  const peaks = new Uint8Array(2 * PEAKS_PER_S);
  writePeaks(peaks, samples, 8000, 1);
  assert.equal(peaks[150], 128);
  assert.equal(peaks.filter(Boolean).length, 1);
  const levels = pyramid(peaks);
  assert.equal(levels.at(-1).length, 1);
  assert.equal(loudness(levels, 1.5, 1.51), 128);
  assert.equal(loudness(levels, 0, 1), 0);
  assert.ok(loudness(levels, 1, 2) > 0);
  assert.equal(loudness(levels, 5, 6), 0);
});

test("zooming keeps the second under the pointer, between all and a hundred pixels a second", () => {
  const scale = Object.assign(new Scale(), { duration: 3600, width: 900 });
  assert.equal(scale.perSecond, 0.25);
  const scrolled = scale.zoomed(3, 450, 0);
  assert.ok(Math.abs((scrolled + 450) / scale.perSecond - 1800) < 1e-6);
  scale.zoomed(99, 0, 0);
  assert.ok(Math.abs(scale.perSecond - 100) < 1e-6);
  scale.zoomed(-99, 0, 0);
  assert.equal(scale.zoom, 1);
});

test("speech grows together over short pauses; what touches a view is found", () => {
  const spans = [];
  for (const [start, end] of [[0, 1], [1.2, 2], [5, 6], [5.5, 5.8]]) grow(spans, start, end, 0.5);
  assert.deepEqual(spans, [{ start: 0, end: 2 }, { start: 5, end: 6 }]);
  assert.deepEqual([touching(spans, 1, 5.5), touching(spans, 2, 5), touching(spans, 6, 9)], [[0, 2], [1, 1], [2, 2]]);
});

test("a WAV's samples are found behind other chunks; other files have none", async () => {
  const file = new DataView(new ArrayBuffer(60));
  const put = (at, text) => [...text].forEach((each, i) => file.setUint8(at + i, each.charCodeAt(0)));
  put(0, "RIFF"), put(8, "WAVELIST"), file.setUint32(16, 1, true); // odd: padded by one
  put(22, "fmt "), file.setUint32(26, 16, true), file.setUint16(30, 1, true), file.setUint16(32, 2, true);
  file.setUint32(34, 44100, true), file.setUint16(44, 16, true), put(46, "data"), file.setUint32(50, 99, true);
  assert.deepEqual(await wavFormat(new Blob([file])), { channels: 2, rate: 44100, first: 54, end: 60 });
  assert.equal(await wavFormat(new Blob(["RIFF and so on"])), null);
});

test("an MP3's frames are walked by their heads, behind a tag", () => {
  const frame = 417; // bytes: 128 kbit/s at 44.1 kHz
  const bytes = new Uint8Array(20 + 3 * frame);
  bytes.set([..."ID3"].map((each) => each.charCodeAt(0)));
  bytes[9] = 10; // the tag's length behind its head
  for (const at of [0, 1, 2]) bytes.set([0xff, 0xfb, 0x90, 0x00], 20 + at * frame);
  const found = [...mp3Frames(bytes)];
  assert.deepEqual(found.map((each) => each.at), [20, 20 + frame, 20 + 2 * frame]);
  assert.ok(found.every(({ duration_s }) => Math.abs(duration_s - 1152 / 44100) < 1e-9));
  assert.deepEqual([...mp3Frames(new Uint8Array(5000))], []);
});
