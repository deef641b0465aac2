// From a recording to its peaks, without ever holding much of it as samples.
//
// `decodeAudioData` holds a whole file as floats at the file's rate: an hour of stereo is 1.4 GB. So only short files
// are decoded in one go; long WAVs are read slice by slice, of other long ones there is no waveform.

import { PEAKS_PER_S, writePeaks } from "./peaks.js";
import { wavFormat } from "./wav.js";

const DECODED_S = 600; // 230 MB of floats while it happens
const DECODED_BYTES = 200e6;
const RATE = 8000; // the lowest that browsers must offer
const SLICE_S = 10;

/** Peaks of `media`, `duration_s` long, as `writePeaks` writes them; null where there are none to be had. */
export async function peaksOf(media, duration_s, signal) {
  const peaks = new Uint8Array(Math.ceil(duration_s * PEAKS_PER_S));
  if (duration_s <= DECODED_S && media.size <= DECODED_BYTES) return decoded(media, peaks, signal);
  const format = await wavFormat(media);
  return format && readSlices(media, format, peaks, signal);
}

async function decoded(media, peaks, signal) {
  const context = new OfflineAudioContext(1, 1, RATE);
  const audio = await context.decodeAudioData(await media.arrayBuffer()).catch(() => null);
  if (!audio) return null;
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    const samples = audio.getChannelData(channel);
    for (let at = 0; at < samples.length && !signal.aborted; at += SLICE_S * RATE) {
      writePeaks(peaks, samples.subarray(at, at + SLICE_S * RATE), RATE, at / RATE);
      await pause();
    }
  }
  return peaks;
}

async function readSlices(media, format, peaks, signal) {
  const { first, end, channels, rate } = format;
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

// Lets the page live between two slices.
function pause() {
  return new Promise((resolve) => setTimeout(resolve));
}
