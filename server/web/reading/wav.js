// Where the samples of a WAV file are.

const PCM = 1;
const EXTENSIBLE = 0xfffe; // says at another place what it is; with 16 bits nothing but PCM is common
const HEAD_BYTES = 65536;

/** `{first, end, channels, rate}` of a WAV's 16-bit samples (`first` and `end` in bytes), or null if it has none. */
export async function wavFormat(media) {
  const head = new DataView(await media.slice(0, HEAD_BYTES).arrayBuffer());
  if (head.byteLength < 44 || name(head, 0) !== "RIFF" || name(head, 8) !== "WAVE") return null;
  let format = null;
  for (let at = 12; at + 8 <= head.byteLength; at += 8 + size(head, at) + (size(head, at) % 2)) {
    if (name(head, at) === "fmt " && at + 24 <= head.byteLength) format = read(head, at + 8);
    if (name(head, at) === "data" && format) {
      return { ...format, first: at + 8, end: Math.min(media.size, at + 8 + size(head, at)) };
    }
  }
  return null;
}

function read(head, at) {
  const code = head.getUint16(at, true);
  const channels = head.getUint16(at + 2, true);
  const rate = head.getUint32(at + 4, true);
  const bits = head.getUint16(at + 14, true);
  return (code === PCM || code === EXTENSIBLE) && bits === 16 && channels && rate ? { channels, rate } : null;
}

function name(head, at) {
  return String.fromCharCode(...[0, 1, 2, 3].map((i) => head.getUint8(at + i)));
}

function size(head, at) {
  return head.getUint32(at + 4, true);
}
