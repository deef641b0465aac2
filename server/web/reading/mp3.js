// Where the frames of an MP3 begin, so that a long one can be decoded piece by piece. Pure.

const VERSION_1 = 3;
const LAYER_3 = 1;
const KBITS_1 = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const KBITS_2 = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
const RATES = { 3: [44100, 48000, 32000], 2: [22050, 24000, 16000], 0: [11025, 12000, 8000] };
const TAG_HEAD = 10;

/** `{at, duration_s}` of every frame in `bytes`; none if they are no MP3, or not to their end. */
export function* mp3Frames(bytes) {
  for (let at = skipTag(bytes); at + 4 <= bytes.length; ) {
    const frame = read(bytes, at);
    if (!frame) return;
    yield { at, duration_s: frame.samples / frame.rate };
    at += frame.length;
  }
}

function read(bytes, at) {
  if (bytes[at] !== 0xff || (bytes[at + 1] & 0xe0) !== 0xe0) return null;
  const version = (bytes[at + 1] >> 3) & 3;
  const layer = (bytes[at + 1] >> 1) & 3;
  const rate = RATES[version]?.[(bytes[at + 2] >> 2) & 3];
  const kbits = (version === VERSION_1 ? KBITS_1 : KBITS_2)[bytes[at + 2] >> 4];
  if (layer !== LAYER_3 || !rate || !kbits) return null;
  const samples = version === VERSION_1 ? 1152 : 576;
  const padding = (bytes[at + 2] >> 1) & 1;
  return { rate, samples, length: Math.floor((samples / 8) * ((kbits * 1000) / rate)) + padding };
}

// ID3v2: its length in four times seven bits.
function skipTag(bytes) {
  if (String.fromCharCode(...bytes.subarray(0, 3)) !== "ID3") return 0;
  return TAG_HEAD + bytes.subarray(6, TAG_HEAD).reduce((size, each) => size * 128 + each, 0);
}
