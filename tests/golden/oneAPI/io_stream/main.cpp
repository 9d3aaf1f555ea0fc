// C simulation on integer codes: reads input codes, runs the generated top function, writes every op's output codes.
//     csim INPUTS OUTPUT_DIRECTORY
// INPUTS holds int64 codes, n_input of them a sample, port after port; OUTPUT_DIRECTORY/<op>.bin gets int64 codes.

#include "firmware/tiny.h"
#include "firmware/nnet_utils/nnet_helpers.h"
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace nnet {
bool trace_enabled = true;
std::map<std::string, void *> *trace_outputs = NULL;
size_t trace_type_size = sizeof(double);
} // namespace nnet

struct tap {
    const char *name;
    size_t size;
    int frac_bits;
};

static const tap taps[] = {{"conv_1", 18, 0}, {"dense_5", 2, 1}};
static const size_t n_taps = sizeof(taps) / sizeof(taps[0]);
static const size_t n_input = 16;
static const size_t n_largest = 16; // of all ports

static int fail(const char *what, const char *name) {
    std::fprintf(stderr, "csim: %s: %s\n", what, name);
    return 1;
}

static void to_values(const int64_t *codes, size_t size, int frac_bits, double *values) {
    for (size_t i = 0; i < size; i++)
        values[i] = std::ldexp(double(codes[i]), -frac_bits);
}

int main(int argc, char **argv) {
    if (argc != 3)
        return fail("usage", "csim INPUTS OUTPUT_DIRECTORY");
    std::FILE *inputs = std::fopen(argv[1], "rb");
    if (!inputs)
        return fail("cannot read", argv[1]);

    std::map<std::string, void *> buffers;
    std::vector<std::vector<double>> values(n_taps);
    std::vector<std::vector<int64_t>> codes(n_taps);
    std::vector<std::FILE *> outputs(n_taps);
    for (size_t i = 0; i < n_taps; i++) {
        values[i].resize(taps[i].size);
        codes[i].resize(taps[i].size);
        buffers[taps[i].name] = values[i].data();
        const std::string path = std::string(argv[2]) + "/" + taps[i].name + ".bin";
        outputs[i] = std::fopen(path.c_str(), "wb");
        if (!outputs[i])
            return fail("cannot write", path.c_str());
    }
    nnet::trace_outputs = &buffers;

    std::vector<int64_t> sample(n_input);
    std::vector<double> real(n_largest);
    while (std::fread(sample.data(), sizeof(int64_t), n_input, inputs) == n_input) {
        sycl::queue queue;
        to_values(sample.data() + 0, 16, 0, real.data());
        nnet::convert_data<double, PortInPipe, 16>(queue, real.data());
        Tiny{}();
        if (!PortInPipe::words().empty())
            return fail("not as many words as a sample has", "port");
        nnet::convert_data_back<Layer4OutPipe, double, 2>(queue, real.data());
        if (!Layer4OutPipe::words().empty())
            return fail("not as many words as a sample has", "dense_5");
        for (size_t i = 0; i < n_taps; i++) {
            for (size_t j = 0; j < taps[i].size; j++) {
                const double code = std::ldexp(values[i][j], taps[i].frac_bits);
                codes[i][j] = int64_t(code);
                if (double(codes[i][j]) != code)
                    return fail("output is not on the grid of its format", taps[i].name);
            }
            if (std::fwrite(codes[i].data(), sizeof(int64_t), taps[i].size, outputs[i]) != taps[i].size)
                return fail("cannot write", taps[i].name);
        }
    }
    for (size_t i = 0; i < n_taps; i++)
        if (std::fclose(outputs[i]) != 0)
            return fail("cannot write", taps[i].name);
    return 0;
}
