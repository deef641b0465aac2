// The microphone: sound into a file, and how loud it is now.

const TYPES = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"];
const PIECE_MS = 1_000;

export class Recorder {
  #pieces = [];
  #beganAt = 0;
  #stopped; // with how many seconds

  /** A recorder that is recording. Rejects where there is no microphone, or none is allowed. */
  static async start() {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    try {
      return new Recorder(stream);
    } catch (error) {
      release(stream);
      throw error;
    }
  }

  constructor(stream) {
    this.stream = stream;
    this.context = new AudioContext();
    this.analyser = new AnalyserNode(this.context, { fftSize: 1024 });
    this.context.createMediaStreamSource(stream).connect(this.analyser);
    this.samples = new Float32Array(this.analyser.fftSize);
    const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
    this.recorder = new MediaRecorder(stream, { mimeType });
    this.recorder.ondataavailable = ({ data }) => this.#pieces.push(data);
    this.#stopped = new Promise((resolve) => (this.recorder.onstop = () => resolve(this.seconds)));
    this.recorder.start(PIECE_MS);
    this.#beganAt = performance.now();
  }

  get seconds() {
    return (performance.now() - this.#beganAt) / 1000;
  }

  /** How loud it is, 0 to 1, over 50 decibels. */
  level() {
    this.analyser.getFloatTimeDomainData(this.samples);
    const power = this.samples.reduce((sum, sample) => sum + sample * sample, 0) / this.samples.length;
    return Math.min(1, Math.max(0, (10 * Math.log10(power + 1e-10) + 50) / 50));
  }

  /** What was recorded up to now, as a file. `discard` has to follow. */
  async stop() {
    this.#finish();
    const durationS = await this.#stopped;
    const type = this.recorder.mimeType;
    const suffix = /\/(\w+)/.exec(type)[1];
    const file = new File(this.#pieces, `Recording ${now()}.${suffix}`, { type });
    return Object.assign(file, { durationS }); // the file itself does not tell
  }

  /** End it and let go of the microphone. */
  discard() {
    this.#finish();
    release(this.stream);
    this.context.close();
  }

  // It has stopped by itself where the microphone was unplugged.
  #finish() {
    if (this.recorder.state !== "inactive") this.recorder.stop();
  }
}

function release(stream) {
  for (const track of stream.getTracks()) track.stop();
}

function now() {
  const date = new Date();
  const two = (number) => String(number).padStart(2, "0");
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join("-");
  return `${day} ${two(date.getHours())}.${two(date.getMinutes())}.${two(date.getSeconds())}`;
}
