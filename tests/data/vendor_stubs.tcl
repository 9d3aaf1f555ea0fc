# Runs a script of a project as a vendor's Tcl would, with commands that only write down how they were called.
# Usage: tclsh vendor_stubs.tcl CALLS SCRIPT [ARGUMENT ...]; it runs in the directory of the project.
set calls [open [lindex $argv 0] w]
set script [lindex $argv 1]
set argv [lrange $argv 2 end]
set MGC_HOME /mgc

proc note {words} { puts $::calls $words }
proc need {path} { if {![file exists $path]} { note "MISSING $path"; error "there is no file $path" } }
proc leave_file {path text} { file mkdir [file dirname $path]; set out [open $path w]; puts $out $text; close $out }

proc unknown args { note $args; return "" }
rename exit leave
proc exit args { note "exit $args"; close $::calls; leave {*}$args }
rename exec run
proc exec args { note "exec $args" }
proc clock args { return 0 }

# Vitis HLS, Vivado HLS, Vivado
proc add_files args {
    note "add_files $args"
    if {[lindex $args 0] eq "-fileset"} { set args [lrange $args 2 end] }
    foreach path [lindex [lsearch -all -inline -not $args -tb] 0] { need $path }
}
proc csim_design args { note "csim_design $args"; leave_file tb_data/csim_results.log same }
proc csynth_design args {
    note "csynth_design $args"
    leave_file ${::project_name}_prj/solution1/syn/verilog/${::project_name}.v module
}
proc cosim_design args {
    note "cosim_design $args"
    set simulation ${::project_name}_prj/solution1/sim
    leave_file $simulation/verilog/${::project_name}.tcl "log_wave -r /\nquit"
    leave_file $simulation/verilog/run_sim.tcl "run_all"
    leave_file $simulation/report/${::project_name}_cosim.rpt passed
    leave_file tb_data/rtl_cosim_results.log same
}

# Quartus
rename package own_package
proc package args {
    if {[string match ::quartus::* [lindex $args end]]} { note "package $args" } else { uplevel 1 own_package $args }
}

# Catapult
proc solution args {
    note "solution $args"
    if {[lrange $args 0 1] eq "file add"} { need [lindex $args 2] }
}
proc library args {
    note "library $args"
    if {[lindex $args end] eq "v"} { return mgc_Xilinx_beh }
    return /CONFIG/PARAMETERS/Vivado/PARAMETERS/Xilinx/PARAMETERS/KINTEX-u/PARAMETERS/-2/PARAMETERS/xcku115/LIBRARIES
}

source $script
close $calls
