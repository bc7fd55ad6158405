// LANES neighbouring lanes of a SIMD group share a vector: lane l of them holds runs l, l + LANES,
// l + 2 LANES, ... of RUN coordinates each, so that they load and store whole runs side by side.

template <typename T>
struct alignas(RUN * sizeof(T) < 16 ? RUN * sizeof(T) : 16) Run {
  T at[RUN];
};

// RUN numbers from device memory, by one load or two where their address allows it.
template <typename T, typename Source>
inline Run<T> load_run(Source from) {
  if ((ulong(from) & (alignof(Run<T>) - 1)) == 0) {
    return *(const device Run<T>*)from;
  }
  Run<T> run;
  for (int i = 0; i < RUN; ++i) {
    run.at[i] = from[i];
  }
  return run;
}

// Codes of a tile on their way through threadgroup memory, token by token.
struct alignas(STAGED) Codes {
  uchar at[STAGED];
};
