#ifndef NNET_PO2_H_
#define NNET_PO2_H_

// Power-of-two weights, stored: a product is a shift, exact in width, without a multiplier.
//
// A weight is one unsigned code {nonzero, negative, exponent}, exponent in the EXP_BITS low bits:
//     value = nonzero ? (negative ? -1 : 1) * 2^(exponent + MIN_EXP) : 0
// nnet::product::mult<x_T, w_T> of hls4ml is `a * w`; the operator below gives it the shift.

#include "ap_fixed.h"
#include "ap_int.h"

#ifndef __SYNTHESIS__
#include <istream>
#endif

namespace nnet {

template <int EXP_BITS, int MIN_EXP> struct po2_weight {
    ap_uint<EXP_BITS + 2> code;

    po2_weight() {}
    po2_weight(unsigned stored) : code(stored) {}
};

#ifndef __SYNTHESIS__
template <int EXP_BITS, int MIN_EXP> std::istream &operator>>(std::istream &text, po2_weight<EXP_BITS, MIN_EXP> &weight) {
    unsigned stored;
    text >> stored;
    weight = po2_weight<EXP_BITS, MIN_EXP>(stored);
    return text;
}
#endif

template <class x_T, int EXP_BITS, int MIN_EXP> struct po2_product {
    static const int span = (1 << EXP_BITS) - 1; // largest stored exponent
    static const int width = x_T::width + 2 + span;
    typedef ap_fixed<width, x_T::iwidth + 2 + span + MIN_EXP> exact_t;
};

template <class x_T, int EXP_BITS, int MIN_EXP>
typename po2_product<x_T, EXP_BITS, MIN_EXP>::exact_t operator*(const x_T &x, const po2_weight<EXP_BITS, MIN_EXP> &weight) {
    #pragma HLS INLINE
    typedef po2_product<x_T, EXP_BITS, MIN_EXP> product;
    const ap_fixed<x_T::width + 1, x_T::iwidth + 1> widened = x; // one bit more, so that unsigned inputs keep their value
    const ap_int<x_T::width + 1> bits = widened.range();
    const ap_uint<EXP_BITS> exponent = weight.code;
    ap_int<product::width> shifted = bits;
    shifted <<= exponent;
    if (weight.code[EXP_BITS] == 1)
        shifted = -shifted;
    if (weight.code[EXP_BITS + 1] == 0)
        shifted = 0;
    typename product::exact_t result;
    result.range() = shifted;
    return result;
}

} // namespace nnet

#endif
