#ifndef NNET_FLOW_H_
#define NNET_FLOW_H_

// Kernels for the ops that hls4ml has not, or not exactly. All of them compute on integer codes:
//     code -> exact result, an integer of CONFIG_T::exact_bits on the grid 2^-exact_frac -> cast to the result type
// and a cast is the assignment of a fixed-point type, or (divide_cast) an exact quotient, rounded once.
//
// io_parallel: arrays. io_stream: one word (nnet::array of all channels) a position, in order; a kernel reads every
// word of a sample and writes every word of its result. What is read and written when, and where it waits meanwhile,
// stands in constant tables that were computed with the project.

#include "nnet_flow_types.h"

namespace nnet {
namespace flow {

// As the Rounding of an integer graph.
enum rounding_mode { TRN, TRN_ZERO, RND, RND_ZERO, RND_INF, RND_MIN_INF, RND_CONV };

// Casts: the last step of every op.

template <class CONFIG_T> struct shift_cast {
    typedef sint<CONFIG_T::exact_bits> exact_t;

    template <class res_T> static res_T apply(const exact_t &exact) {
        #pragma HLS INLINE
        return cast_of<res_T, CONFIG_T::exact_frac>(exact);
    }
};

// exact / divisor on the grid of res_T, rounded once. With n = exact << numerator_shift,
//     floor(n / denominator) = ((n + offset * denominator) * reciprocal >> product_shift) - offset
// for every n that can occur: reciprocal is 2^product_shift / denominator, rounded up, and product_shift large enough.
// Then the rest decides.
template <class CONFIG_T> struct divide_cast {
    typedef sint<CONFIG_T::exact_bits> exact_t;

    template <class res_T> static res_T apply(const exact_t &exact) {
        #pragma HLS INLINE
        sint<CONFIG_T::numerator_bits> numerator = exact;
        numerator <<= CONFIG_T::numerator_shift;
        const sint<CONFIG_T::numerator_bits> denominator = CONFIG_T::denominator;
        const sint<CONFIG_T::numerator_bits> offset = CONFIG_T::offset;
        sint<CONFIG_T::product_bits> product = numerator + offset * denominator;
        product *= sint<CONFIG_T::reciprocal_bits>(CONFIG_T::reciprocal);
        const sint<CONFIG_T::numerator_bits> floor = sint<CONFIG_T::numerator_bits>(product >> CONFIG_T::product_shift) - offset;
        const sint<CONFIG_T::numerator_bits> twice = (numerator - floor * denominator) * 2;
        const bool tie = twice == denominator;
        const bool negative = exact < 0;
        bool up = twice > denominator; // for every rounding to nearest
        if (CONFIG_T::rounding == TRN)
            up = false;
        else if (CONFIG_T::rounding == TRN_ZERO)
            up = negative && twice > 0;
        else if (CONFIG_T::rounding == RND)
            up = up || tie;
        else if (CONFIG_T::rounding == RND_INF)
            up = up || (tie && !negative);
        else if (CONFIG_T::rounding == RND_ZERO)
            up = up || (tie && negative);
        else if (CONFIG_T::rounding == RND_CONV)
            up = up || (tie && floor[0] == 1);
        sint<CONFIG_T::numerator_bits> rounded = floor;
        if (up)
            rounded += 1;
        return cast_of<res_T, grid<res_T>::frac_bits>(rounded);
    }
};

// Functions of one code; `position` counts the codes of a sample.

template <class CONFIG_T> struct requantize {
    template <class x_T, class y_T> static y_T apply(const x_T &x, unsigned position) {
        #pragma HLS INLINE
        const typename CONFIG_T::cast::exact_t exact = code_of(x);
        return CONFIG_T::cast::template apply<y_T>(exact);
    }
};

template <class CONFIG_T> struct relu {
    template <class x_T, class y_T> static y_T apply(const x_T &x, unsigned position) {
        #pragma HLS INLINE
        typename CONFIG_T::cast::exact_t exact = code_of(x);
        const typename CONFIG_T::cast::exact_t limit = CONFIG_T::limit;
        if (exact < 0)
            exact = 0;
        else if (exact > limit)
            exact = limit;
        return CONFIG_T::cast::template apply<y_T>(exact);
    }
};

template <class CONFIG_T> struct leaky_relu {
    template <class x_T, class y_T> static y_T apply(const x_T &x, unsigned position) {
        #pragma HLS INLINE
        typename CONFIG_T::cast::exact_t exact = code_of(x);
        if (exact < 0)
            exact *= sint<CONFIG_T::factor_bits>(CONFIG_T::slope[position % CONFIG_T::n_slope]);
        else
            exact <<= CONFIG_T::raise;
        return CONFIG_T::cast::template apply<y_T>(exact);
    }
};

template <class CONFIG_T> struct scale_and_offset {
    template <class x_T, class y_T> static y_T apply(const x_T &x, unsigned position) {
        #pragma HLS INLINE
        typename CONFIG_T::cast::exact_t exact = code_of(x);
        exact *= sint<CONFIG_T::factor_bits>(CONFIG_T::scale[position % CONFIG_T::n_chan]);
        exact += sint<CONFIG_T::exact_bits>(CONFIG_T::offset[position % CONFIG_T::n_chan]);
        return CONFIG_T::cast::template apply<y_T>(exact);
    }
};

// A step function as a table from its first to its last step; codes beyond share the outermost entries.
template <class CONFIG_T> struct clamped_table {
    template <class x_T, class y_T> static y_T apply(const x_T &x, unsigned position) {
        #pragma HLS INLINE
        const sint<x_T::width + 1> first = CONFIG_T::first, last = CONFIG_T::last;
        sint<x_T::width + 1> place = code_of(x) >> CONFIG_T::shift;
        if (place < first)
            place = first;
        else if (place > last)
            place = last;
        const sint<y_T::width + 1> code = CONFIG_T::values[(place - first).to_int()];
        y_T y;
        set_code(y, code);
        return y;
    }
};

// A step function as comparisons with the start of each run.
template <class CONFIG_T> struct runs {
    template <class x_T, class y_T> static y_T apply(const x_T &x, unsigned position) {
        #pragma HLS INLINE
        const sint<x_T::width + 1> code = code_of(x);
        sint<y_T::width + 1> found = CONFIG_T::values[0];
        for (unsigned run = 1; run < CONFIG_T::n_runs; run++) {
            #pragma HLS UNROLL
            if (code >= sint<x_T::width + 1>(CONFIG_T::starts[run]))
                found = CONFIG_T::values[run];
        }
        y_T y;
        set_code(y, found);
        return y;
    }
};

// A step function of each channel, or of all, as a binary search for the run that holds the code.
template <class CONFIG_T> struct search {
    template <class x_T, class y_T> static y_T apply(const x_T &x, unsigned position) {
        #pragma HLS INLINE
        const sint<x_T::width + 1> code = code_of(x);
        unsigned run = position % CONFIG_T::n_chan * CONFIG_T::n_runs;
        for (unsigned half = CONFIG_T::n_runs / 2; half > 0; half /= 2) {
            #pragma HLS UNROLL
            if (code >= sint<x_T::width + 1>(CONFIG_T::starts[run + half]))
                run += half;
        }
        const sint<y_T::width + 1> found = CONFIG_T::values[run];
        y_T y;
        set_code(y, found);
        return y;
    }
};

// Functions of two codes on one grid.

struct add {
    template <class T> static T apply(const T &a, const T &b) { return a + b; }
};

struct subtract {
    template <class T> static T apply(const T &a, const T &b) { return a - b; }
};

struct multiply {
    template <class T> static T apply(const T &a, const T &b) { return a * b; }
};

struct maximum {
    template <class T> static T apply(const T &a, const T &b) { return a < b ? b : a; }
};

struct minimum {
    template <class T> static T apply(const T &a, const T &b) { return b < a ? b : a; }
};

// Input number P of a merge, shifted to the common grid, into the results so far.
template <class CONFIG_T, unsigned P, class x_T, class exact_T> void merge_one(const x_T &x, exact_T &exact) {
    #pragma HLS INLINE
    exact_T code = code_of(x);
    code <<= CONFIG_T::raise[P];
    exact = P == 0 ? code : CONFIG_T::operation::apply(exact, code);
}

template <class CONFIG_T, unsigned P, class exact_T> void merge_arrays(exact_T *exact) {}

template <class CONFIG_T, unsigned P, class exact_T, class data_T, class... rest_T>
void merge_arrays(exact_T *exact, data_T *data, rest_T *...rest) {
    #pragma HLS INLINE
    for (unsigned i = 0; i < CONFIG_T::n_elem; i++) {
        #pragma HLS UNROLL
        merge_one<CONFIG_T, P>(data[i], exact[i]);
    }
    merge_arrays<CONFIG_T, P + 1>(exact, rest...);
}

template <class CONFIG_T, unsigned P, class exact_T> void merge_word(exact_T *exact) {}

template <class CONFIG_T, unsigned P, class exact_T, class data_S, class... rest_S>
void merge_word(exact_T *exact, data_S &data, rest_S &...rest) {
    #pragma HLS INLINE
    const typename words<data_S>::word_t word = data.read();
    for (unsigned i = 0; i < words<data_S>::size; i++) {
        #pragma HLS UNROLL
        merge_one<CONFIG_T, P>(word[i], exact[i]);
    }
    merge_word<CONFIG_T, P + 1>(exact, rest...);
}

template <class CONFIG_T, unsigned P, class res_T> void gather_arrays(res_T *res) {}

template <class CONFIG_T, unsigned P, class res_T, class data_T, class... rest_T>
void gather_arrays(res_T *res, data_T *data, rest_T *...rest) {
    #pragma HLS INLINE
    for (unsigned i = 0; i < CONFIG_T::n_elem; i++) {
        #pragma HLS UNROLL
        if (CONFIG_T::source[i] == int(P))
            res[i] = data[CONFIG_T::place[i]];
    }
    gather_arrays<CONFIG_T, P + 1>(res, rest...);
}

template <class CONFIG_T, class code_T> void join_bit(unsigned *number, unsigned i, const code_T &code) {
    #pragma HLS INLINE
    number[i / CONFIG_T::n_bit] |= unsigned(code_of(code)[CONFIG_T::bit_of_code[i]]) << (i % CONFIG_T::n_bit);
}

template <class CONFIG_T, unsigned P> void join_arrays(unsigned *number) {}

template <class CONFIG_T, unsigned P, class data_T, class... rest_T>
void join_arrays(unsigned *number, data_T *data, rest_T *...rest) {
    #pragma HLS INLINE
    for (unsigned i = 0; i < CONFIG_T::n_elem * CONFIG_T::n_bit; i++) {
        #pragma HLS UNROLL
        if (CONFIG_T::source[i] == int(P))
            join_bit<CONFIG_T>(number, i, data[CONFIG_T::place[i]]);
    }
    join_arrays<CONFIG_T, P + 1>(number, rest...);
}

template <class CONFIG_T, unsigned P> void join_word(unsigned turn, unsigned *number) {}

template <class CONFIG_T, unsigned P, class data_S, class... rest_S>
void join_word(unsigned turn, unsigned *number, data_S &data, rest_S &...rest) {
    #pragma HLS INLINE
    if (turn < unsigned(CONFIG_T::n_word[P])) {
        const typename words<data_S>::word_t word = data.read();
        const unsigned size = words<data_S>::size;
        for (unsigned i = 0; i < CONFIG_T::n_elem * CONFIG_T::n_bit; i++) {
            #pragma HLS UNROLL
            if (CONFIG_T::source[i] == int(P) && unsigned(CONFIG_T::place[i]) / size == turn)
                join_bit<CONFIG_T>(number, i, word[CONFIG_T::place[i] % size]);
        }
    }
    join_word<CONFIG_T, P + 1>(turn, number, rest...);
}

template <class CONFIG_T, class code_T> void looked_up(unsigned *number, unsigned i, code_T &code) {
    #pragma HLS INLINE
    const sint<code_T::width + 1> value = CONFIG_T::values[(i << CONFIG_T::n_bit) + number[i]];
    set_code(code, value);
}

template <class CONFIG_T, unsigned P, class code_T>
void gather_word(unsigned long long step, unsigned *turn, code_T store[][CONFIG_T::n_column]) {}

template <class CONFIG_T, unsigned P, class code_T, class data_S, class... rest_S>
void gather_word(unsigned long long step, unsigned *turn, code_T store[][CONFIG_T::n_column], data_S &data,
                  rest_S &...rest) {
    #pragma HLS INLINE
    if (step >> P & 1) {
        const typename words<data_S>::word_t word = data.read();
        for (unsigned i = 0; i < words<data_S>::size; i++) {
            #pragma HLS UNROLL
            store[CONFIG_T::first_row[P] + turn[P]][i] = word[i];
        }
        turn[P] = turn[P] + 1 == unsigned(CONFIG_T::n_row[P]) ? 0 : turn[P] + 1;
    }
    gather_word<CONFIG_T, P + 1>(step, turn, store, rest...);
}

// What a pooling does with the pixels of a window, and with the result of window `k`.

template <class CONFIG_T> struct largest {
    template <class T> static T apply(const T &a, const T &b) { return maximum::apply(a, b); }
    template <class T> static T finish(const T &result, unsigned k) { return result; }
};

template <class CONFIG_T> struct weighted_sum {
    template <class T> static T apply(const T &a, const T &b) { return a + b; }
    template <class T> static T finish(const T &result, unsigned k) {
        return result * sint<CONFIG_T::factor_bits>(CONFIG_T::weight[k]);
    }
};

template <class CONFIG_T, class data_T, class res_T> void softmax_one(const data_T *data, res_T *res) {
    #pragma HLS INLINE
    typedef uint<CONFIG_T::exact_bits> number;
    sint<data_T::width + 1> top = code_of(data[0]);
    for (unsigned i = 1; i < CONFIG_T::n_chan; i++) {
        #pragma HLS UNROLL
        top = maximum::apply(top, code_of(data[i]));
    }
    number part[CONFIG_T::n_chan];
    #pragma HLS ARRAY_PARTITION variable=part complete
    number total = 0;
    for (unsigned i = 0; i < CONFIG_T::n_chan; i++) {
        #pragma HLS UNROLL
        const sint<data_T::width + 2> distance = top - code_of(data[i]);
        part[i] = CONFIG_T::exponentials[distance.to_int()];
        total += part[i];
    }
    const number whole = CONFIG_T::max_code;
    for (unsigned i = 0; i < CONFIG_T::n_chan; i++) {
        #pragma HLS UNROLL
        number quotient = number((part[i] << (CONFIG_T::frac_bits + 1)) + total) / number(total << 1);
        if (quotient > whole)
            quotient = whole;
        set_code(res[i], quotient);
    }
}

} // namespace flow

// The same function for every code.

template <class data_T, class res_T, typename CONFIG_T>
void map_codes(data_T data[CONFIG_T::n_elem], res_T res[CONFIG_T::n_elem]) {
    #pragma HLS PIPELINE
    for (unsigned i = 0; i < CONFIG_T::n_elem; i++) {
        #pragma HLS UNROLL
        res[i] = CONFIG_T::operation::template apply<data_T, res_T>(data[i], i);
    }
}

namespace flow {

template <class CONFIG_T, class data_S, class res_S> void map_words(data_S &data, res_S &res) {
    #pragma HLS INLINE
    for (unsigned k = 0; k < CONFIG_T::n_elem / words<data_S>::size; k++) {
        #pragma HLS PIPELINE
        const typename words<data_S>::word_t word = data.read();
        typename words<res_S>::word_t result;
        for (unsigned i = 0; i < words<data_S>::size; i++) {
            #pragma HLS UNROLL
            result[i] = CONFIG_T::operation::template apply<typename words<data_S>::code_t, typename words<res_S>::code_t>(
                word[i], k * words<data_S>::size + i);
        }
        res.write(result);
    }
}

} // namespace flow

template <class data_T, class res_T, typename CONFIG_T>
void map_codes(flow::channel<data_T> &data, flow::channel<res_T> &res) {
    flow::map_words<CONFIG_T>(data, res);
}

// Several inputs of one shape, element by element, from left to right.

template <class res_T, typename CONFIG_T, class... data_T> void merge_codes(res_T *res, data_T *...data) {
    #pragma HLS PIPELINE
    typename CONFIG_T::cast::exact_t exact[CONFIG_T::n_elem];
    #pragma HLS ARRAY_PARTITION variable=exact complete
    flow::merge_arrays<CONFIG_T, 0>(exact, data...);
    for (unsigned i = 0; i < CONFIG_T::n_elem; i++) {
        #pragma HLS UNROLL
        res[i] = CONFIG_T::cast::template apply<res_T>(exact[i]);
    }
}

namespace flow {

template <class CONFIG_T, class res_S, class... data_S> void merge_words(res_S &res, data_S &...data) {
    #pragma HLS INLINE
    for (unsigned k = 0; k < CONFIG_T::n_elem / words<res_S>::size; k++) {
        #pragma HLS PIPELINE
        typename CONFIG_T::cast::exact_t exact[words<res_S>::size];
        #pragma HLS ARRAY_PARTITION variable=exact complete
        merge_word<CONFIG_T, 0>(exact, data...);
        typename words<res_S>::word_t result;
        for (unsigned i = 0; i < words<res_S>::size; i++) {
            #pragma HLS UNROLL
            result[i] = CONFIG_T::cast::template apply<typename words<res_S>::code_t>(exact[i]);
        }
        res.write(result);
    }
}

} // namespace flow

template <class res_T, typename CONFIG_T, class... data_T>
void merge_codes(flow::channel<res_T> &res, flow::channel<data_T> &...data) {
    flow::merge_words<CONFIG_T>(res, data...);
}

// Codes at other places: from input `source` (-1: a zero), at `place` of it.

template <class res_T, typename CONFIG_T, class... data_T> void gather_codes(res_T *res, data_T *...data) {
    #pragma HLS PIPELINE
    for (unsigned i = 0; i < CONFIG_T::n_elem; i++) {
        #pragma HLS UNROLL
        if (CONFIG_T::source[i] < 0)
            res[i] = 0;
    }
    flow::gather_arrays<CONFIG_T, 0>(res, data...);
}

// A code for each number that bits of the inputs make: from input `source` (-1: a zero), of the code at `place` of it.

template <class res_T, typename CONFIG_T, class... data_T> void truth_table_codes(res_T *res, data_T *...data) {
    #pragma HLS PIPELINE
    unsigned number[CONFIG_T::n_elem] = {};
    #pragma HLS ARRAY_PARTITION variable=number complete
    flow::join_arrays<CONFIG_T, 0>(number, data...);
    for (unsigned i = 0; i < CONFIG_T::n_elem; i++) {
        #pragma HLS UNROLL
        flow::looked_up<CONFIG_T>(number, i, res[i]);
    }
}

// Every word is read, one of each input at a time, before the first is written.
namespace flow {

template <class CONFIG_T, class res_S, class... data_S> void truth_table_words(res_S &res, data_S &...data) {
    #pragma HLS INLINE
    unsigned number[CONFIG_T::n_elem] = {};
    #pragma HLS ARRAY_PARTITION variable=number complete
    for (unsigned turn = 0; turn < CONFIG_T::n_turn; turn++) {
        #pragma HLS PIPELINE
        join_word<CONFIG_T, 0>(turn, number, data...);
    }
    for (unsigned k = 0; k < CONFIG_T::n_elem; k += words<res_S>::size) {
        #pragma HLS PIPELINE
        typename words<res_S>::word_t result;
        for (unsigned i = 0; i < words<res_S>::size; i++) {
            #pragma HLS UNROLL
            looked_up<CONFIG_T>(number, k + i, result[i]);
        }
        res.write(result);
    }
}

} // namespace flow

template <class res_T, typename CONFIG_T, class... data_T>
void truth_table_codes(flow::channel<res_T> &res, flow::channel<data_T> &...data) {
    flow::truth_table_words<CONFIG_T>(res, data...);
}

// In each step at most one word of every input is read (bit P) and at most one is written (the bit above them). Words
// wait in rows of a buffer, circular for each input and as long as the longest wait; `row` is -1 for a zero.
namespace flow {

template <class CONFIG_T, class res_S, class... data_S> void gather_words(res_S &res, data_S &...data) {
    #pragma HLS INLINE
    typename words<res_S>::code_t store[CONFIG_T::n_rows][CONFIG_T::n_column];
    #pragma HLS ARRAY_PARTITION variable=store complete dim=2
    unsigned turn[CONFIG_T::n_input];
    #pragma HLS ARRAY_PARTITION variable=turn complete
    for (unsigned p = 0; p < CONFIG_T::n_input; p++) {
        #pragma HLS UNROLL
        turn[p] = 0;
    }
    unsigned k = 0;
    for (unsigned t = 0; t < CONFIG_T::n_step; t++) {
        #pragma HLS PIPELINE
        const unsigned long long step = CONFIG_T::step[t];
        gather_word<CONFIG_T, 0>(step, turn, store, data...);
        if (step >> CONFIG_T::n_input & 1) {
            typename words<res_S>::word_t result;
            for (unsigned i = 0; i < words<res_S>::size; i++) {
                #pragma HLS UNROLL
                const int row = CONFIG_T::row[k * words<res_S>::size + i];
                if (row < 0)
                    result[i] = 0;
                else
                    result[i] = store[row][CONFIG_T::column[k * words<res_S>::size + i]];
            }
            res.write(result);
            k++;
        }
    }
}

} // namespace flow

template <class res_T, typename CONFIG_T, class... data_T>
void gather_codes(flow::channel<res_T> &res, flow::channel<data_T> &...data) {
    flow::gather_words<CONFIG_T>(res, data...);
}

// Windows: `pixel` holds, window by window, the place of each pixel, or -1 for padding.

template <class data_T, class res_T, typename CONFIG_T>
void pool_codes(data_T data[CONFIG_T::n_in * CONFIG_T::n_chan], res_T res[CONFIG_T::n_out * CONFIG_T::n_chan]) {
    #pragma HLS PIPELINE
    for (unsigned k = 0; k < CONFIG_T::n_out; k++) {
        #pragma HLS UNROLL
        for (unsigned c = 0; c < CONFIG_T::n_chan; c++) {
            #pragma HLS UNROLL
            typename CONFIG_T::cast::exact_t exact = 0;
            bool first = true;
            for (unsigned p = 0; p < CONFIG_T::n_window; p++) {
                #pragma HLS UNROLL
                const int pixel = CONFIG_T::pixel[k * CONFIG_T::n_window + p];
                if (pixel >= 0) {
                    const typename CONFIG_T::cast::exact_t code = flow::code_of(data[pixel * CONFIG_T::n_chan + c]);
                    exact = first ? code : CONFIG_T::operation::apply(exact, code);
                    first = false;
                }
            }
            res[k * CONFIG_T::n_chan + c] = CONFIG_T::cast::template apply<res_T>(CONFIG_T::operation::finish(exact, k));
        }
    }
}

// Each pixel goes, as it is read, into every window that holds it: `target` names, pixel by pixel, 2 * row + 1 if it is
// the window's first pixel, 2 * row if not, -1 for none. Windows wait in rows of a circular buffer until they are
// written; in each step a word is read (bit 0), or written (bit 1), or both.
namespace flow {

template <class CONFIG_T, class data_S, class res_S> void pool_words(data_S &data, res_S &res) {
    #pragma HLS INLINE
    typename CONFIG_T::cast::exact_t store[CONFIG_T::n_row][CONFIG_T::n_chan];
    #pragma HLS ARRAY_PARTITION variable=store complete dim=2
    unsigned pixel = 0;
    unsigned k = 0;
    unsigned turn = 0;
    for (unsigned t = 0; t < CONFIG_T::n_step; t++) {
        #pragma HLS PIPELINE
        const int step = CONFIG_T::step[t];
        if (step & 1) {
            const typename words<data_S>::word_t word = data.read();
            for (unsigned p = 0; p < CONFIG_T::n_target; p++) {
                #pragma HLS UNROLL
                const int target = CONFIG_T::target[pixel * CONFIG_T::n_target + p];
                if (target >= 0) {
                    for (unsigned c = 0; c < CONFIG_T::n_chan; c++) {
                        #pragma HLS UNROLL
                        const typename CONFIG_T::cast::exact_t code = code_of(word[c]);
                        const typename CONFIG_T::cast::exact_t earlier = store[target >> 1][c];
                        store[target >> 1][c] = target & 1 ? code : CONFIG_T::operation::apply(earlier, code);
                    }
                }
            }
            pixel++;
        }
        if (step & 2) {
            typename words<res_S>::word_t result;
            for (unsigned c = 0; c < CONFIG_T::n_chan; c++) {
                #pragma HLS UNROLL
                result[c] = CONFIG_T::cast::template apply<typename words<res_S>::code_t>(
                    CONFIG_T::operation::finish(store[turn][c], k));
            }
            res.write(result);
            turn = turn + 1 == CONFIG_T::n_row ? 0 : turn + 1;
            k++;
        }
    }
}

} // namespace flow

template <class data_T, class res_T, typename CONFIG_T>
void pool_codes(flow::channel<data_T> &data, flow::channel<res_T> &res) {
    flow::pool_words<CONFIG_T>(data, res);
}

// Softmax over the last axis.

template <class data_T, class res_T, typename CONFIG_T>
void softmax_codes(data_T data[CONFIG_T::n_elem], res_T res[CONFIG_T::n_elem]) {
    #pragma HLS PIPELINE
    for (unsigned i = 0; i < CONFIG_T::n_elem; i += CONFIG_T::n_chan) {
        #pragma HLS UNROLL
        flow::softmax_one<CONFIG_T>(data + i, res + i);
    }
}

namespace flow {

template <class CONFIG_T, class data_S, class res_S> void softmax_words(data_S &data, res_S &res) {
    #pragma HLS INLINE
    for (unsigned k = 0; k < CONFIG_T::n_elem / CONFIG_T::n_chan; k++) {
        #pragma HLS PIPELINE
        const typename words<data_S>::word_t word = data.read();
        typename words<res_S>::word_t result;
        softmax_one<CONFIG_T>(&word[0], &result[0]);
        res.write(result);
    }
}

} // namespace flow

template <class data_T, class res_T, typename CONFIG_T>
void softmax_codes(flow::channel<data_T> &data, flow::channel<res_T> &res) {
    flow::softmax_words<CONFIG_T>(data, res);
}

// A matrix product, in a body of `scan_codes`.

template <class data_T, class res_T, typename CONFIG_T>
void dense_codes(data_T data[CONFIG_T::n_in], res_T res[CONFIG_T::n_out]) {
    #pragma HLS PIPELINE
    for (unsigned o = 0; o < CONFIG_T::n_out; o++) {
        #pragma HLS UNROLL
        typename CONFIG_T::cast::exact_t exact = CONFIG_T::bias[o];
        for (unsigned i = 0; i < CONFIG_T::n_in; i++) {
            #pragma HLS UNROLL
            const typename CONFIG_T::cast::exact_t code = flow::code_of(data[i]);
            exact += code * flow::sint<CONFIG_T::factor_bits>(CONFIG_T::weight[i * CONFIG_T::n_out + o]);
        }
        res[o] = CONFIG_T::cast::template apply<res_T>(exact);
    }
}

// The same codes in the same order, in words of another size; COMMON divides the sizes of both.

template <class data_T, class res_T, unsigned N, unsigned COMMON> void copy_codes(data_T data[N], res_T res[N]) {
    #pragma HLS PIPELINE
    for (unsigned i = 0; i < N; i++) {
        #pragma HLS UNROLL
        res[i] = data[i];
    }
}

namespace flow {

template <unsigned N, unsigned COMMON, class data_S, class res_S> void copy_words(data_S &data, res_S &res) {
    #pragma HLS INLINE
    typename words<data_S>::word_t word;
    typename words<res_S>::word_t result;
    unsigned read_place = 0;
    unsigned write_place = 0;
    for (unsigned k = 0; k < N / COMMON; k++) {
        #pragma HLS PIPELINE
        if (read_place == 0)
            word = data.read();
        for (unsigned i = 0; i < COMMON; i++) {
            #pragma HLS UNROLL
            result[write_place + i] = word[read_place + i];
        }
        read_place = read_place + COMMON == words<data_S>::size ? 0 : read_place + COMMON;
        write_place = write_place + COMMON == words<res_S>::size ? 0 : write_place + COMMON;
        if (write_place == 0)
            res.write(result);
    }
}

} // namespace flow

template <class data_T, class res_T, unsigned N, unsigned COMMON>
void copy_codes(flow::channel<data_T> &data, flow::channel<res_T> &res) {
    flow::copy_words<N, COMMON>(data, res);
}

// A sequence row by row: `apply` makes an output of a row and of the states, and leaves those for the next row. States
// are zero at first; the output is of every row, or of the last.

namespace flow {

template <unsigned N, class held_T, class code_T> void load_codes(const held_T *held, code_T *codes) {
    #pragma HLS INLINE
    for (unsigned i = 0; i < N; i++) {
        #pragma HLS UNROLL
        set_code(codes[i], held[i]);
    }
}

template <unsigned N, class held_T, class code_T> void store_codes(held_T *held, const code_T *codes) {
    #pragma HLS INLINE
    for (unsigned i = 0; i < N; i++) {
        #pragma HLS UNROLL
        held[i] = code_of(codes[i]);
    }
}

template <unsigned N, class held_T> void clear_codes(held_T *held) {
    #pragma HLS INLINE
    for (unsigned i = 0; i < N; i++) {
        #pragma HLS UNROLL
        held[i] = 0;
    }
}

} // namespace flow

template <class data_T, class res_T, typename CONFIG_T>
void scan_codes(data_T data[CONFIG_T::n_rows * CONFIG_T::n_in], res_T *res) {
    flow::sint<CONFIG_T::state_bits> held[CONFIG_T::n_state];
    #pragma HLS ARRAY_PARTITION variable=held complete
    flow::clear_codes<CONFIG_T::n_state>(held);
    for (unsigned k = 0; k < CONFIG_T::n_rows; k++) {
        #pragma HLS PIPELINE
        CONFIG_T::apply(data + k * CONFIG_T::n_in, held, res + (CONFIG_T::every_row ? k * CONFIG_T::n_out : 0));
    }
}

namespace flow {

template <class CONFIG_T, class data_S, class res_S> void scan_words(data_S &data, res_S &res) {
    #pragma HLS INLINE
    sint<CONFIG_T::state_bits> held[CONFIG_T::n_state];
    #pragma HLS ARRAY_PARTITION variable=held complete
    clear_codes<CONFIG_T::n_state>(held);
    for (unsigned k = 0; k < CONFIG_T::n_rows; k++) {
        #pragma HLS PIPELINE
        typename words<data_S>::word_t word = data.read();
        typename words<res_S>::word_t result;
        CONFIG_T::apply(&word[0], held, &result[0]);
        if (CONFIG_T::every_row || k + 1 == CONFIG_T::n_rows)
            res.write(result);
    }
}

} // namespace flow

template <class data_T, class res_T, typename CONFIG_T>
void scan_codes(flow::channel<data_T> &data, flow::channel<res_T> &res) {
    flow::scan_words<CONFIG_T>(data, res);
}

} // namespace nnet

#endif
