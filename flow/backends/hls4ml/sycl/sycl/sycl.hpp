#ifndef SYCL_HPP_
#define SYCL_HPP_

// As much of SYCL as a project for oneAPI names, for a plain C++ compiler: pipes are queues without
// end, and a task runs when it is called.

#include <cstdint>
#include <deque>
#include <utility>

#define SYCL_EXTERNAL

namespace sycl {

struct queue {};

namespace ext {
namespace oneapi {
namespace experimental {

struct properties_tag {};
template <class... property_T> struct properties {
    properties(property_T...) {}
};

} // namespace experimental
} // namespace oneapi

namespace intel {
namespace experimental {

template <int N> struct ready_latency_key {};
template <int N> constexpr ready_latency_key<N> ready_latency{};
template <class... rest_T> struct interface_key {};
template <class... rest_T> constexpr interface_key<rest_T...> streaming_interface{};
template <class... rest_T> constexpr interface_key<rest_T...> pipelined{};

template <class id_T, class word_T, int32_t DEPTH = 0, class properties_T = void, typename... rest_T> struct pipe {
    static std::deque<word_T> &words() {
        static std::deque<word_T> held;
        return held;
    }
    static word_T read() {
        const word_T word = words().at(0); // throws if there is none
        words().pop_front();
        return word;
    }
    static word_T read(queue &) { return read(); }
    static void write(const word_T &word) { words().push_back(word); }
    static void write(queue &, const word_T &word) { write(word); }
};

template <auto &task> struct task_sequence {
    template <class... argument_T> void async(argument_T &&...arguments) { task(std::forward<argument_T>(arguments)...); }
};

} // namespace experimental
} // namespace intel
} // namespace ext
} // namespace sycl

#endif
