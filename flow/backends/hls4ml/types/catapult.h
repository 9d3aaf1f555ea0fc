#ifndef NNET_FLOW_TYPES_H_
#define NNET_FLOW_TYPES_H_

// What nnet_flow.h is written in, of Catapult.

#include "nnet_flow_ac.h"

namespace nnet {
namespace flow {

template <class T> using channel = ac_channel<T>;
template <class stream_T> struct words;
template <class T> struct words<ac_channel<T>> {
    typedef T word_t;
    typedef typename T::value_type code_t;
    static const unsigned size = T::size;
};

} // namespace flow
} // namespace nnet

#endif
