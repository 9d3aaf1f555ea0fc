//Numpy array shape [2, 2, 1, 2]
//Min -8.000000000000
//Max 8.000000000000
//Number of zeros 2

#ifndef W2_H_
#define W2_H_

#ifdef __INTELFPGA_COMPILER__
hls_init_on_powerup
#endif
static const conv_1_weight_t w2[8] = {8, 4, 0, 0, -1, -8, -8, -1};

#endif
