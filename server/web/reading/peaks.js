// A waveform as loudness per moment, in ever coarser levels, so that a pixel costs the same at any zoom. Pure.

export const PEAKS_PER_S = 100;

/** Writes the largest magnitudes (0 to 255) of `samples` (floats within ±1) into `peaks`, from `startS` on. */
export function writePeaks(peaks, samples, sampleRate, startS = 0) {
  const perPeak = sampleRate / PEAKS_PER_S;
  const first = Math.round(startS * PEAKS_PER_S);
  for (let at = 0; at * perPeak < samples.length && first + at < peaks.length; at++) {
    const end = Math.min(samples.length, Math.round((at + 1) * perPeak));
    let largest = 0;
    for (let i = Math.round(at * perPeak); i < end; i++) largest = Math.max(largest, Math.abs(samples[i]));
    peaks[first + at] = Math.max(peaks[first + at], Math.min(255, Math.round(largest * 255)));
  }
}

/** Levels of which each has half as many values as the one before, their means; the first is `peaks`.
 *
 * Means, for the largest of a minute is as loud as that of any other minute. */
export function pyramid(peaks) {
  const levels = [peaks];
  while (levels.at(-1).length > 1) levels.push(halved(levels.at(-1)));
  return levels;
}

function halved(finer) {
  return Uint8Array.from({ length: Math.ceil(finer.length / 2) }, (_, i) =>
    Math.round((finer[2 * i] + (finer[2 * i + 1] ?? finer[2 * i])) / 2),
  );
}

/** How loud it is between two times, by the coarsest level that is fine enough: two or three look-ups. */
export function loudness(levels, fromS, toS) {
  const wanted = (toS - fromS) * PEAKS_PER_S;
  const level = Math.max(0, Math.min(levels.length - 1, Math.floor(Math.log2(wanted))));
  const perS = PEAKS_PER_S / 2 ** level;
  const peaks = levels[level];
  const end = Math.min(peaks.length, Math.max(Math.ceil(toS * perS), Math.floor(fromS * perS) + 1));
  let largest = 0;
  for (let i = Math.max(0, Math.floor(fromS * perS)); i < end; i++) largest = Math.max(largest, peaks[i]);
  return largest;
}
