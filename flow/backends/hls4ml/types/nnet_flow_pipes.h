#ifndef NNET_FLOW_PIPES_H_
#define NNET_FLOW_PIPES_H_

// The kernels of nnet_flow.h as oneAPI calls them: on std::array, and on pipes.

#include "nnet_flow.h"

namespace nnet {

template <class data_T, class res_T, typename CONFIG_T> void map_codes(data_T &data, res_T &res) {
    map_codes<typename data_T::value_type, typename res_T::value_type, CONFIG_T>(data.data(), res.data());
}

template <class res_T, typename CONFIG_T, class... data_T> void merge_codes(res_T &res, data_T &...data) {
    merge_codes<typename res_T::value_type, CONFIG_T>(res.data(), data.data()...);
}

template <class res_T, typename CONFIG_T, class... data_T> void gather_codes(res_T &res, data_T &...data) {
    gather_codes<typename res_T::value_type, CONFIG_T>(res.data(), data.data()...);
}

template <class res_T, typename CONFIG_T, class... data_T> void truth_table_codes(res_T &res, data_T &...data) {
    truth_table_codes<typename res_T::value_type, CONFIG_T>(res.data(), data.data()...);
}

template <class data_T, class res_T, typename CONFIG_T> void pool_codes(data_T &data, res_T &res) {
    pool_codes<typename data_T::value_type, typename res_T::value_type, CONFIG_T>(data.data(), res.data());
}

template <class data_T, class res_T, typename CONFIG_T> void softmax_codes(data_T &data, res_T &res) {
    softmax_codes<typename data_T::value_type, typename res_T::value_type, CONFIG_T>(data.data(), res.data());
}

template <class data_T, class res_T, typename CONFIG_T> void scan_codes(data_T &data, res_T &res) {
    scan_codes<typename data_T::value_type, typename res_T::value_type, CONFIG_T>(data.data(), res.data());
}

template <class data_T, class res_T, unsigned N, unsigned COMMON> void copy_codes(data_T &data, res_T &res) {
    copy_codes<typename data_T::value_type, typename res_T::value_type, N, COMMON>(data.data(), res.data());
}

template <class data_pipe, class res_pipe, typename CONFIG_T> void map_codes_stream() {
    flow::pipe_end<data_pipe> data;
    flow::pipe_end<res_pipe> res;
    flow::map_words<CONFIG_T>(data, res);
}

template <class CONFIG_T, class... end_T> void merge_ends(end_T... ends) { flow::merge_words<CONFIG_T>(ends...); }

template <class res_pipe, typename CONFIG_T, class... data_pipe> void merge_codes_stream() {
    merge_ends<CONFIG_T>(flow::pipe_end<res_pipe>(), flow::pipe_end<data_pipe>()...);
}

template <class CONFIG_T, class... end_T> void gather_ends(end_T... ends) { flow::gather_words<CONFIG_T>(ends...); }

template <class res_pipe, typename CONFIG_T, class... data_pipe> void gather_codes_stream() {
    gather_ends<CONFIG_T>(flow::pipe_end<res_pipe>(), flow::pipe_end<data_pipe>()...);
}

template <class CONFIG_T, class... end_T> void truth_table_ends(end_T... ends) {
    flow::truth_table_words<CONFIG_T>(ends...);
}

template <class res_pipe, typename CONFIG_T, class... data_pipe> void truth_table_codes_stream() {
    truth_table_ends<CONFIG_T>(flow::pipe_end<res_pipe>(), flow::pipe_end<data_pipe>()...);
}

template <class data_pipe, class res_pipe, typename CONFIG_T> void pool_codes_stream() {
    flow::pipe_end<data_pipe> data;
    flow::pipe_end<res_pipe> res;
    flow::pool_words<CONFIG_T>(data, res);
}

template <class data_pipe, class res_pipe, typename CONFIG_T> void softmax_codes_stream() {
    flow::pipe_end<data_pipe> data;
    flow::pipe_end<res_pipe> res;
    flow::softmax_words<CONFIG_T>(data, res);
}

template <class data_pipe, class res_pipe, typename CONFIG_T> void scan_codes_stream() {
    flow::pipe_end<data_pipe> data;
    flow::pipe_end<res_pipe> res;
    flow::scan_words<CONFIG_T>(data, res);
}

template <class data_pipe, class res_pipe, unsigned N, unsigned COMMON> void copy_codes_stream() {
    flow::pipe_end<data_pipe> data;
    flow::pipe_end<res_pipe> res;
    flow::copy_words<N, COMMON>(data, res);
}

} // namespace nnet

#endif
