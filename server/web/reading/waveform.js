// From a recording to its peaks, without ever holding much of it as samples.
//
// `decodeAudioData` holds what it decodes as floats at the file's rate: an hour of stereo is 1.4 GB. So only short
// files are decoded in one go; long MP3s go through it piece by piece, long WAVs are read. Other long files, whose
// pieces can't be told apart, have no waveform.

import { mp3Frames } from "./mp3.js";
import { PEAKS_PER_S, writePeaks } from "./peaks.js";
import { wavFormat } from "./wav.js";

const WHOLE_S = 600; // 230 MB of floats while it is decoded
const PIECE_S = 60;
const SLICE_S = 10;
const MOST_BYTES = 200e6; // of a file, held while it is decoded
const RATE = 8000; // the lowest that browsers must offer

/** Peaks of `media`, `duration_s` long, as `writePeaks` writes them; null where there are none to be had. */
export async function peaksOf(media, duration_s, signal) {
  const peaks = new Uint8Array(Math.ceil(duration_s * PEAKS_PER_S));
  const wav = await wavFormat(media);
  if (wav) return readWav(media, wav, peaks, signal);
  if (media.size > MOST_BYTES) return null;
  const bytes = await media.arrayBuffer();
  const whole = duration_s <= WHOLE_S ? [{ bytes, start_s: 0, length_s: duration_s }] : mp3Pieces(new Uint8Array(bytes));
  return decode(whole, peaks, signal);
}

async function decode(pieces, peaks, signal) {
  const context = new OfflineAudioContext(1, 1, RATE);
  let cut_s = null; // what decoders leave out at a file's beginning: the frames behind it are as much earlier
  for (const { bytes, start_s, length_s } of pieces) {
    if (signal.aborted) return null;
    const audio = await context.decodeAudioData(bytes).catch(() => null);
    if (!audio) continue;
    await writeAll(audio, start_s ? start_s - cut_s : 0, peaks);
    cut_s ??= Math.max(0, length_s - audio.duration);
  }
  return cut_s === null ? null : peaks;
}

async function writeAll(audio, start_s, peaks) {
  const step = SLICE_S * RATE;
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    const samples = audio.getChannelData(channel);
    for (let at = 0; at < samples.length; at += step) {
      writePeaks(peaks, samples.subarray(at, at + step), RATE, start_s + at / RATE);
      await new Promise((resolve) => setTimeout(resolve)); // lets the page live
    }
  }
}

function* mp3Pieces(bytes) {
  let passed_s = 0;
  let begun = null;
  const piece = (end) => ({
    bytes: bytes.slice(begun.at, end).buffer,
    start_s: begun.start_s,
    length_s: passed_s - begun.start_s,
  });
  for (const { at, duration_s } of mp3Frames(bytes)) {
    begun ??= { at, start_s: 0 };
    if (passed_s - begun.start_s >= PIECE_S) {
      yield piece(at);
      begun = { at, start_s: passed_s };
    }
    passed_s += duration_s;
  }
  if (begun) yield piece();
}

async function readWav(media, { first, end, channels, rate }, peaks, signal) {
  const step = SLICE_S * rate * channels * 2;
  for (let at = first; at < end && !signal.aborted; at += step) {
    const bytes = await media.slice(at, Math.min(at + step, end)).arrayBuffer();
    const samples = new Int16Array(bytes, 0, Math.floor(bytes.byteLength / 2));
    const one = new Float32Array(Math.ceil(samples.length / channels));
    for (let i = 0; i < one.length; i++) one[i] = samples[i * channels] / 32768;
    writePeaks(peaks, one, rate, (at - first) / (rate * channels * 2));
  }
  return peaks;
}
