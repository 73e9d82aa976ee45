// Messages between atoms, gated by a filter of the distance: the sums over neighbours of `model/layers/message.py`, and their
// first and second derivatives. Nothing as wide as an edge is ever stored: an edge's filter is made again wherever it is needed.
//
// For an edge e from j to i, in each channel c, with g = (b, u) the edge's radial functions and unit vector:
//     w_g = sum_r b_r W_rg;   scalars_i += w_0 s_0j;   vectors_ik += w_1 s_1j u_k + w_2 s_2j v_jk
// `receive` is that sum, `send` the derivative of <scalars, A> + <vectors, D> by all that goes in. Both are written for numbers
// that may carry a tangent (forward-mode derivative); the second derivatives are the tangents of these two.
//
// Edges come in the order of the atom that they are summed for, cut into slices that do not depend on the number of threads;
// every number is added up by one thread in one order, so that results are the same with any number of threads.
#include <atomic>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <thread>
#include <vector>

namespace {

constexpr int kFunctions = 32;  // most radial functions, the constant counted
#ifdef __AVX512F__
constexpr int kBytes = 64;  // of a vector
#else
constexpr int kBytes = 32;
#endif

struct Arguments {  // as `_Arguments` in model/layers/message.py
  std::int64_t atoms, channels, gates, functions, slices, threads;
  const std::int64_t *order;   // edges in the order of the atom they are summed for
  const std::int64_t *starts;  // (atoms + 1,) where each atom's edges start in that order
  const std::int64_t *others;  // the atom at the other end of each edge, in that order
  const std::int64_t *bounds;  // (slices + 1,) atoms at which slices start
  const void *geometry, *weight, *sent, *arrows;                  // (E, R + 3), (R, gates C), (N, gates C), (N, 3, C) or null
  const void *geometry_dot, *weight_dot, *sent_dot, *arrows_dot;  // their tangents; null: zero
  const void *scalars_bar, *vectors_bar;                          // A and D
  void *scalars, *vectors;                                        // what `receive` fills
  void *geometry_bar, *weight_bar, *sent_bar, *arrows_bar;        // what `send` fills; null: not wanted; weight_bar by slice
};

template <class T>
struct Lane {
  typedef T Vector __attribute__((vector_size(kBytes)));
  static constexpr int count = kBytes / sizeof(T);
};

template <class V>
struct Dual {  // a number and its tangent
  V x, d;
};

template <class V> inline Dual<V> operator*(Dual<V> a, Dual<V> b) { return {a.x * b.x, a.x * b.d + a.d * b.x}; }
template <class V> inline Dual<V> operator*(Dual<V> a, V b) { return {a.x * b, a.d * b}; }
template <class V> inline Dual<V> &operator+=(Dual<V> &a, Dual<V> b) { a.x += b.x; a.d += b.d; return a; }

// What a kernel computes with, and what it leaves: values, or tangents of values.
template <class T> struct Value {
  using V = typename Lane<T>::Vector;
  using Number = V;
  static inline Number join(V x, V) { return x; }
  static inline V result(Number a) { return a; }
  static constexpr bool tangent = false;
};
template <class T> struct Tangent {
  using V = typename Lane<T>::Vector;
  using Number = Dual<V>;
  static inline Number join(V x, V d) { return {x, d}; }
  static inline V result(Number a) { return a.d; }
  static constexpr bool tangent = true;
};

template <class T> inline typename Lane<T>::Vector load(const T *from, int count) {
  typename Lane<T>::Vector value = {};
  if (count == Lane<T>::count) std::memcpy(&value, from, sizeof(value));
  else std::memcpy(&value, from, count * sizeof(T));
  return value;
}

template <class T> inline void store(T *to, typename Lane<T>::Vector value, int count) {
  if (count == Lane<T>::count) std::memcpy(to, &value, sizeof(value));
  else std::memcpy(to, &value, count * sizeof(T));
}

template <class T, template <class> class Mode>
struct Kernel {
  using M = Mode<T>;
  using V = typename M::V;
  using Number = typename M::Number;
  static constexpr int lanes = Lane<T>::count;

  const Arguments &a;
  const bool carried;  // vectors come in
  explicit Kernel(const Arguments &arguments) : a(arguments), carried(arguments.arrows != nullptr) {}

  static inline Number read(const void *from, const void *tangent, std::int64_t place, int count) {
    const V x = load(static_cast<const T *>(from) + place, count);
    if constexpr (M::tangent) return M::join(x, tangent ? load(static_cast<const T *>(tangent) + place, count) : V{});
    else return x;
  }
  static inline Number spread(const T *from, const T *tangent, std::int64_t place) {
    V zero = {};
    const V x = zero + from[place];
    if constexpr (M::tangent) return M::join(x, tangent ? zero + tangent[place] : zero);
    else return x;
  }
  const T *geometry() const { return static_cast<const T *>(a.geometry); }
  const T *geometry_dot() const { return static_cast<const T *>(a.geometry_dot); }

  // The filters of one block of channels.
  void weights(Number (*into)[3], std::int64_t channel, int count) const {
    for (int r = 0; r < a.functions; ++r)
      for (int g = 0; g < (carried ? 3 : 2); ++g)
        into[r][g] = read(a.weight, a.weight_dot, (r * a.gates + g) * a.channels + channel, count);
  }
  inline void filter(Number (&w)[3], const Number (*weight)[3], std::int64_t edge) const {
    const std::int64_t place = edge * (a.functions + 3);
    for (int g = 0; g < 3; ++g) w[g] = Number{};
    for (int r = 0; r < a.functions; ++r) {
      const Number b = spread(geometry(), geometry_dot(), place + r);
      w[0] += b * weight[r][0];
      w[1] += b * weight[r][1];
      if (carried) w[2] += b * weight[r][2];
    }
  }

  void receive(std::int64_t slice) const {
    Number weight[kFunctions][3];
    for (std::int64_t channel = 0; channel < a.channels; channel += lanes) {
      const int count = a.channels - channel < lanes ? int(a.channels - channel) : lanes;
      weights(weight, channel, count);
      for (std::int64_t i = a.bounds[slice]; i < a.bounds[slice + 1]; ++i) {
        Number scalar{}, vector[3] = {};
        for (std::int64_t p = a.starts[i]; p < a.starts[i + 1]; ++p) {
          const std::int64_t edge = a.order[p], j = a.others[p], place = edge * (a.functions + 3) + a.functions;
          Number w[3];
          filter(w, weight, edge);
          const std::int64_t row = j * a.gates * a.channels + channel;
          scalar += w[0] * read(a.sent, a.sent_dot, row, count);
          const Number along = w[1] * read(a.sent, a.sent_dot, row + a.channels, count);
          for (int k = 0; k < 3; ++k) vector[k] += along * spread(geometry(), geometry_dot(), place + k);
          if (!carried) continue;
          const Number across = w[2] * read(a.sent, a.sent_dot, row + 2 * a.channels, count);
          for (int k = 0; k < 3; ++k) vector[k] += across * read(a.arrows, a.arrows_dot, (j * 3 + k) * a.channels + channel, count);
        }
        store(static_cast<T *>(a.scalars) + i * a.channels + channel, M::result(scalar), count);
        for (int k = 0; k < 3; ++k) store(static_cast<T *>(a.vectors) + (i * 3 + k) * a.channels + channel, M::result(vector[k]), count);
      }
    }
  }

  void send(std::int64_t slice) const {
    const std::int64_t first = a.starts[a.bounds[slice]], edges = a.starts[a.bounds[slice + 1]] - first;
    const int columns = int(a.functions) + 3;
    std::vector<V> slopes(a.geometry_bar ? edges * columns : 0, V{});
    Number weight[kFunctions][3];
    for (std::int64_t channel = 0; channel < a.channels; channel += lanes) {
      const int count = a.channels - channel < lanes ? int(a.channels - channel) : lanes;
      weights(weight, channel, count);
      V weight_bar[kFunctions][3] = {};
      for (std::int64_t j = a.bounds[slice]; j < a.bounds[slice + 1]; ++j)
        send_from(j, channel, count, weight, weight_bar, a.geometry_bar ? slopes.data() - first * columns : nullptr);
      if (a.weight_bar)
        for (int r = 0; r < a.functions; ++r)
          for (int g = 0; g < (carried ? 3 : 2); ++g)
            store(static_cast<T *>(a.weight_bar) + ((slice * a.functions + r) * a.gates + g) * a.channels + channel, weight_bar[r][g], count);
    }
    for (std::int64_t p = first; a.geometry_bar && p < first + edges; ++p)
      for (int column = 0; column < columns; ++column) {
        T sum = 0;
        for (int lane = 0; lane < lanes; ++lane) sum += slopes[(p - first) * columns + column][lane];
        static_cast<T *>(a.geometry_bar)[a.order[p] * columns + column] = sum;
      }
  }

  inline void send_from(std::int64_t j, std::int64_t channel, int count, const Number (*weight)[3], V (*weight_bar)[3], V *slopes) const {
    const std::int64_t row = j * a.gates * a.channels + channel;
    Number s[3] = {}, v[3] = {}, s_bar[3] = {}, v_bar[3] = {};
    for (int g = 0; g < (carried ? 3 : 2); ++g) s[g] = read(a.sent, a.sent_dot, row + g * a.channels, count);
    for (int k = 0; carried && k < 3; ++k) v[k] = read(a.arrows, a.arrows_dot, (j * 3 + k) * a.channels + channel, count);
    for (std::int64_t p = a.starts[j]; p < a.starts[j + 1]; ++p) {
      const std::int64_t edge = a.order[p], i = a.others[p], place = edge * (a.functions + 3);
      const V scalar = load(static_cast<const T *>(a.scalars_bar) + i * a.channels + channel, count);
      V vector[3];
      for (int k = 0; k < 3; ++k) vector[k] = load(static_cast<const T *>(a.vectors_bar) + (i * 3 + k) * a.channels + channel, count);
      Number w[3], along{}, across{};
      filter(w, weight, edge);
      for (int k = 0; k < 3; ++k) along += spread(geometry(), geometry_dot(), place + a.functions + k) * vector[k];
      for (int k = 0; k < 3; ++k) across += v[k] * vector[k];
      s_bar[0] += w[0] * scalar;
      s_bar[1] += w[1] * along;
      if (carried) {
        s_bar[2] += w[2] * across;
        const Number gate = w[2] * s[2];
        for (int k = 0; k < 3; ++k) v_bar[k] += gate * vector[k];
      }
      if (!slopes && !a.weight_bar) continue;
      const Number t[3] = {s[0] * scalar, s[1] * along, s[2] * across};
      if (slopes) {
        V *slope = slopes + p * (a.functions + 3);
        for (int r = 0; r < a.functions; ++r) {
          Number sum = weight[r][0] * t[0];
          sum += weight[r][1] * t[1];
          if (carried) sum += weight[r][2] * t[2];
          slope[r] += M::result(sum);
        }
        const Number gate = w[1] * s[1];
        for (int k = 0; k < 3; ++k) slope[a.functions + k] += M::result(gate * vector[k]);
      }
      for (int r = 0; a.weight_bar && r < a.functions; ++r) {
        const Number b = spread(geometry(), geometry_dot(), place + r);
        for (int g = 0; g < (carried ? 3 : 2); ++g) weight_bar[r][g] += M::result(b * t[g]);
      }
    }
    for (int g = 0; a.sent_bar && g < (carried ? 3 : 2); ++g)
      store(static_cast<T *>(a.sent_bar) + row + g * a.channels, M::result(s_bar[g]), count);
    for (int k = 0; a.arrows_bar && k < 3; ++k)
      store(static_cast<T *>(a.arrows_bar) + (j * 3 + k) * a.channels + channel, M::result(v_bar[k]), count);
  }
};

// Share the slices among threads; 0, or 1 where memory ran out.
template <class Work> int over_slices(const Arguments &a, const Work &work) {
  std::atomic<std::int64_t> next{0};
  std::atomic<int> failed{0};
  const auto run = [&] {
    try {
      for (std::int64_t slice = next++; slice < a.slices; slice = next++) work(slice);
    } catch (const std::bad_alloc &) {
      failed = 1;
    }
  };
  std::vector<std::thread> helpers;
  try {
    for (std::int64_t n = 1; n < a.threads && n < a.slices; ++n) helpers.emplace_back(run);
  } catch (const std::exception &) {  // no further thread is to be had: those that run share the work
  }
  run();
  for (auto &each : helpers) each.join();
  return failed;
}

template <class T, template <class> class Mode> int receive(const Arguments &a) {
  const Kernel<T, Mode> kernel(a);
  return over_slices(a, [&](std::int64_t slice) { kernel.receive(slice); });
}
template <class T, template <class> class Mode> int send(const Arguments &a) {
  const Kernel<T, Mode> kernel(a);
  return over_slices(a, [&](std::int64_t slice) { kernel.send(slice); });
}

}  // namespace

extern "C" {
int receive_f64(const Arguments *a) { return receive<double, Value>(*a); }
int receive_f32(const Arguments *a) { return receive<float, Value>(*a); }
int receive_tangent_f64(const Arguments *a) { return receive<double, Tangent>(*a); }
int receive_tangent_f32(const Arguments *a) { return receive<float, Tangent>(*a); }
int send_f64(const Arguments *a) { return send<double, Value>(*a); }
int send_f32(const Arguments *a) { return send<float, Value>(*a); }
int send_tangent_f64(const Arguments *a) { return send<double, Tangent>(*a); }
int send_tangent_f32(const Arguments *a) { return send<float, Tangent>(*a); }
}
