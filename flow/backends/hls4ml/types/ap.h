#ifndef NNET_FLOW_TYPES_H_
#define NNET_FLOW_TYPES_H_

// What nnet_flow.h is written in, of AMD's types.

#include "ap_fixed.h"
#include "ap_int.h"
#include "hls_stream.h"

namespace nnet {
namespace flow {

template <int W> using sint = ap_int<W>;
template <int W> using uint = ap_uint<W>;

template <class T> using channel = hls::stream<T>;
template <class stream_T> struct words;
template <class T> struct words<hls::stream<T>> {
    typedef T word_t;
    typedef typename T::value_type code_t;
    static const unsigned size = T::size;
};

template <class T> struct grid {
    static const int frac_bits = T::width - T::iwidth;
};

// The integer that the bits of x stand for; one bit wider, so that an unsigned code keeps its value.
template <class x_T> sint<x_T::width + 1> code_of(const x_T &x) {
    #pragma HLS INLINE
    const ap_fixed<x_T::width + 1, x_T::iwidth + 1> wide = x;
    const sint<x_T::width + 1> code = wide.range();
    return code;
}

// The low bits of a code as the bits of y.
template <class y_T, class code_T> void set_code(y_T &y, const code_T &code) {
    #pragma HLS INLINE
    y.range() = code;
}

// code * 2^-FRAC_BITS, cast to y_T.
template <class y_T, int FRAC_BITS, int W> y_T cast_of(const sint<W> &code) {
    #pragma HLS INLINE
    ap_fixed<W, W - FRAC_BITS> value;
    value.range() = code;
    return y_T(value);
}

} // namespace flow
} // namespace nnet

#endif
