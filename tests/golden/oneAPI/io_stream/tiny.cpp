#include "tiny.h"
#include "parameters.h"
#include <sycl/ext/intel/experimental/task_sequence.hpp>

// hls-fpga-machine-learning insert weights
#include "weights/w2.h"
#include "weights/b2.h"
#include "weights/w4.h"
#include "weights/b4.h"

// The inter-task pipes need to be declared in the global scope
// hls-fpga-machine-learning insert inter-task pipes
class Layer2OutPipeID;
using Layer2OutPipe = sycl::ext::intel::experimental::pipe<Layer2OutPipeID, layer2_t, 9>;
class Layer3OutPipeID;
using Layer3OutPipe = sycl::ext::intel::experimental::pipe<Layer3OutPipeID, layer3_t, 1>;

using sycl::ext::intel::experimental::task_sequence;

void Tiny::operator()() const {
    // ****************************************
    // NETWORK INSTANTIATION
    // ****************************************

    // hls-fpga-machine-learning read in

    // hls-fpga-machine-learning declare task sequences
    task_sequence<nnet::conv_2d_cl_stream<PortInPipe, Layer2OutPipe, config2>> conv_1;
    task_sequence<nnet::copy_codes_stream<Layer2OutPipe, Layer3OutPipe, 18, 2>> flat_dense_5;
    task_sequence<nnet::dense_resource_stream<Layer3OutPipe, Layer4OutPipe, config4>> dense_5;

    // hls-fpga-machine-learning insert layers

    conv_1.async(w2, b2);
    flat_dense_5.async();
    dense_5.async(w4, b4);

    // hls-fpga-machine-learning return
}
