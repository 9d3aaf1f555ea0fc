// C simulation on integer codes: reads input codes, runs the generated top function, writes every op's output codes.
//     csim INPUTS OUTPUT_DIRECTORY
// INPUTS holds int64 codes, n_input of them a sample, port after port; OUTPUT_DIRECTORY/<op>.bin gets int64 codes.

#include "firmware/branches.h"
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

static const tap taps[] = {{"sumpool_2", 8, 2}, {"merge_4", 8, 2}, {"leaky_relu_5", 8, 5}, {"maxpool_6", 8, 1}, {"gather_7", 16, 5}, {"requantize_8", 16, 0}, {"lookup_9", 16, 0}, {"softmax_11", 16, 4}};
static const size_t n_taps = sizeof(taps) / sizeof(taps[0]);
static const size_t n_input = 40;
static const size_t n_largest = 32; // of all ports

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
        input_t x0[32];
        to_values(sample.data() + 0, 32, 1, real.data());
        nnet::convert_data<double, input_t, 32>(real.data(), x0);
        input2_t x1[8];
        to_values(sample.data() + 32, 8, 0, real.data());
        nnet::convert_data<double, input2_t, 8>(real.data(), x1);
        layer12_t y0[32];
        layer13_t y1[16];
        layer14_t y2[16];
        layer11_t y3[16];
        branches(x0, x1, y0, y1, y2, y3);
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
