#ifndef NNET_FLOW_TYPES_H_
#define NNET_FLOW_TYPES_H_

// What nnet_flow.h is written in, of oneAPI: a stream is a pipe, which is a type; kernels take an object for it.

#include "nnet_flow_ac.h"
#include "nnet_types.h"
#include <tuple>

namespace nnet {
namespace flow {

template <class pipe_T> struct pipe_end {
    typedef typename ExtractPipeType<pipe_T>::value_type word_t;

    word_t read() { return pipe_T::read(); }
    void write(const word_t &word) { pipe_T::write(word); }
};

template <class T> struct channel; // streams are no objects
template <class stream_T> struct words;
template <class pipe_T> struct words<pipe_end<pipe_T>> {
    typedef typename pipe_end<pipe_T>::word_t word_t;
    typedef typename word_t::value_type code_t;
    static constexpr unsigned size = std::tuple_size<word_t>{};
};

} // namespace flow
} // namespace nnet

#endif
