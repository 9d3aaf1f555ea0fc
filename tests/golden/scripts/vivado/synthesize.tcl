read_verilog [glob *.v]
read_xdc -mode out_of_context clock.xdc
synth_design -mode out_of_context -top tiny -part xc7z020clg400-1
report_utilization -file utilization.rpt
report_utilization -hierarchical -file hierarchy.rpt
report_timing_summary -file timing.rpt
