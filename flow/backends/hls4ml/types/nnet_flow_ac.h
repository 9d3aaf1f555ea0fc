#ifndef NNET_FLOW_AC_H_
#define NNET_FLOW_AC_H_

// What nnet_flow.h is written in, of the open Algorithmic C types; they are included where a project names them.

namespace nnet {
namespace flow {

template <int W> using sint = ac_int<W, true>;
template <int W> using uint = ac_int<W, false>;

template <class T> struct grid {
    static const int frac_bits = T::width - T::i_width;
};

// The integer that the bits of x stand for; one bit wider, so that an unsigned code keeps its value.
template <class x_T> sint<x_T::width + 1> code_of(const x_T &x) {
    return x.template slc<x_T::width>(0);
}

// The low bits of a code as the bits of y.
template <class y_T, class code_T> void set_code(y_T &y, const code_T &code) {
    y.set_slc(0, code.template slc<y_T::width>(0));
}

// code * 2^-FRAC_BITS, cast to y_T.
template <class y_T, int FRAC_BITS, int W> y_T cast_of(const sint<W> &code) {
    ac_fixed<W, W - FRAC_BITS, true> value = 0;
    value.set_slc(0, code);
    return y_T(value);
}

} // namespace flow
} // namespace nnet

#endif
