create_clock -name clock -period 3.333 [get_ports ap_clk]
