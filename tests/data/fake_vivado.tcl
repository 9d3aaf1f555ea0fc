# Runs a script as Vivado would, as far as can be told without it: writes down every call, refuses commands, options, cells,
# pins and parameters that are not in the tables beside it, and keeps the block design, which must be connected whole.
# Usage: tclsh fake_vivado.tcl CALLS SCRIPT [ARGUMENT ...]; BOARD="" stands for missing board files, SLACK for the timing.
set here [file dirname [file normalize [info script]]]
set calls [open [lindex $argv 0] w]
set script [lindex $argv 1]
set argv [lrange $argv 2 end]
foreach {name preset} {BOARD fake.com:board:part0:1.0 SLACK 0.1} {
    set given($name) [expr {[info exists env($name)] ? $env($name) : $preset}]
}

proc rows {path} {
    set file [open $::here/$path]
    set lines [lsearch -all -inline -not -regexp [split [string trim [read $file]] \n] ^#]
    close $file
    return $lines
}

foreach line [rows vivado_cells.txt] {
    set rest [lassign $line cell kind name]
    if {$kind eq "param"} { set default($cell,$name) [lindex $rest 0] } else { lappend catalogue($cell) [list $kind $name {*}$rest] }
}

# Commands: what is no option is handed to `do_COMMAND` where there is one, after a dict of the options.
foreach line [rows vivado_commands.txt] {
    set rest [lassign $line command fewest most]
    set split [lsearch $rest :]
    set flags [concat -quiet -verbose [lrange $rest 0 [expr {$split < 0 ? "end" : $split - 1}]]]
    set valued [expr {$split < 0 ? "" : [lrange $rest $split+1 end]}]
    proc $command args [string map [list @ [list $command $fewest $most $flags $valued]] {
        call {*}{@} $args
    }]
}

proc call {command fewest most flags valued words} {
    puts $::calls [string map [list [file dirname [pwd]] HANDOVER] "$command $words"]
    set options [dict create]
    set plain {}
    while {[llength $words]} {
        set words [lassign $words word]
        if {$word in $flags} {
            dict set options $word 1
        } elseif {$word in $valued} {
            if {![llength $words]} { error "$command: $word has no value" }
            set words [lassign $words value]
            dict set options $word $value
        } elseif {[string match {-[a-z]*} $word]} {
            error "$command has no option $word"
        } else {
            lappend plain $word
        }
    }
    if {[llength $plain] < $fewest || ($most ne "*" && [llength $plain] > $most)} {
        error "$command takes $fewest to $most words, not [llength $plain]: $plain"
    }
    if {[llength [info procs do_$command]]} { return [do_$command $options {*}$plain] }
}

proc need {path} { if {![file exists $path]} { error "there is no file $path" } }
proc leave {path} { file mkdir [file dirname $path]; close [open $path w] }

proc do_add_files {options paths} { foreach path $paths { need $path } }
proc do_read_verilog {options paths} { foreach path $paths { need $path } }
proc do_read_xdc {options path} { need $path }
proc do_get_board_parts {options args} { return $::given(BOARD) }
proc do_create_project {options name directory} { set ::project [list $name $directory] }
proc do_current_project {options} { return project }
proc do_current_fileset {options} { return fileset }
proc do_get_runs {options name} { return $name }
proc do_get_property {options name object} {
    if {$name in {STATS.WNS STATS.WHS}} { return $::given(SLACK) }
    if {$name eq "DIRECTORY"} { return [lindex $::project 1]/runs }
    error "property $name is not known"
}
proc do_set_property {options args} {
    if {![dict exists $options -dict] && ![llength $args]} return
    set changes [expr {[dict exists $options -dict] ? [dict get $options -dict] : [lrange $args 0 1]}]
    foreach object [lindex $args end] {
        if {$object in {project fileset}} {
            set known {board_part board_connections ip_repo_paths top}
            foreach name [dict keys $changes] { if {$name ni $known} { error "$object has no property $name" } }
            continue
        }
        set kind $::cells($object)
        dict for {name value} $changes {
            set name [string range $name [string length CONFIG.] end]
            if {![info exists ::default($kind,$name)]} { error "a $kind has no parameter $name" }
            set ::settings($object,$name) $value
        }
    }
}

# ---- the block design

proc do_create_bd_design {options name} { set ::design $name }
proc do_create_bd_cell {options name} {
    lassign [split [dict get $options -vlnv] :] vendor library kind version
    if {$vendor eq "po2flow"} { packaged [dict get $options -vlnv]; set kind net }
    if {![info exists ::catalogue($kind)]} { error "there is no IP $kind" }
    set ::cells($name) $kind
}
# The net, by its component.xml in the repository: buses, and the inputs clock and reset.
proc packaged {vlnv} {
    set file [open ../component.xml]
    set text [string map {spirit: ""} [read $file]]
    close $file
    foreach tag {vendor library name version} { regexp "<$tag>(\[^<\]*)" $text all found; lappend stated $found }
    if {[join $stated :] ne $vlnv} { error "the repository has [join $stated :], not $vlnv" }
    set ::catalogue(net) {}
    foreach at [regexp -all -inline -indices {<busInterface>} $text] {
        set part [string range $text [lindex $at 0] [string first </busInterface> $text [lindex $at 0]]]
        regexp {<name>([^<]*)} $part all name
        regexp {<busType name="([^"]*)} $part all bus
        set side [expr {[string match *<master>* $part] || [string match "*<master />*" $part] ? "master" : "slave"}]
        lappend ::catalogue(net) [expr {$bus in {axis aximm} ? [list intf $name $side $bus] : [list pin $name in]}]
    }
}
# The interfaces or pins of a cell as it is set: name -> side and protocol, or direction.
proc pins {cell kind} {
    set found [dict create]
    foreach row $::catalogue($::cells($cell)) {
        set rest [lassign $row one name]
        if {$one ne $kind} continue
        set size [expr {$kind eq "intf" ? 2 : 1}]
        set count [lindex $rest $size]
        set times [expr {$count eq "" ? 1 : [setting $cell $count]}]
        for {set i 0} {$i < $times} {incr i} { dict set found [format $name $i] [lrange $rest 0 [expr {$size - 1}]] }
    }
    return $found
}
proc setting {cell name} {
    if {[info exists ::settings($cell,$name)]} { return $::settings($cell,$name) }
    return $::default($::cells($cell),$name)
}
proc look {kind paths} {
    foreach path $paths {
        lassign [split $path /] cell name
        if {![info exists ::cells($cell)]} { error "there is no cell $cell" }
        if {![dict exists [pins $cell $kind] $name]} { error "cell $cell ($::cells($cell)) has no $kind $name" }
    }
    return $paths
}
proc about {kind path} { lassign [split $path /] cell name; return [dict get [pins $cell $kind] $name] }
proc do_get_bd_cells {options name} { if {![info exists ::cells($name)]} { error "there is no cell $name" }; return $name }
proc do_get_bd_pins {options paths} { look pin $paths }
proc do_get_bd_intf_pins {options paths} { look intf $paths }
proc join_once {path} { if {[info exists ::joined($path)]} { error "$path is connected twice" }; set ::joined($path) 1 }
proc do_connect_bd_intf_net {options one other} {
    lassign [about intf $one] side protocol
    lassign [about intf $other] other_side other_protocol
    if {$side eq $other_side || $protocol ne $other_protocol} { error "$one ($side $protocol) and $other ($other_side $other_protocol) do not fit" }
    join_once $one
    join_once $other
}
proc do_connect_bd_net {options args} {
    set drivers {}
    foreach path $args { if {[about pin $path] eq "out"} { lappend drivers $path } else { join_once $path } }
    if {[llength $drivers] != 1} { error "a net has [llength $drivers] drivers: $args" }
}
proc do_apply_bd_automation {options cell} {
    if {[dict get $options -rule] ne "xilinx.com:bd_rule:$::cells($cell)"} { error "no rule of $cell" }
}
proc do_apply_board_connection {options} {
    if {[dict get $options -diagram] ne $::design} { error "no such diagram" }
    set path [look intf [dict get $options -ip_intf]]
    if {[lindex [about intf $path] 1] ne "board"} { error "$path is no interface of a board" }
    join_once $path
}
proc do_assign_bd_address {options} { set ::assigned 1 }
proc do_validate_bd_design {options} {
    foreach cell [lsort [array names ::cells]] {
        foreach kind {intf pin} {
            dict for {name about} [pins $cell $kind] {
                if {![info exists ::joined($cell/$name)] && $about ni {out free}} { error "$cell/$name is open" }
            }
        }
    }
    if {"axi_dma" in [lmap {cell kind} [array get ::cells] {set kind}] && ![info exists ::assigned]} { error "no addresses" }
    set ::valid 1
}
proc do_get_files {options name} { if {$name ne "$::design.bd"} { error "there is no file $name" }; return $name }
proc do_make_wrapper {options file} { if {![info exists ::valid]} { error "the design was not validated" }; set ::wrapped 1 }
proc do_launch_runs {options run} {
    lassign $::project name directory
    if {[dict exists $options -to_step]} {
        leave $directory/runs/${::design}_wrapper.bit
        leave $directory/$name.gen/sources_1/bd/$::design/hw_handoff/$::design.hwh
    }
}

source $script
close $calls
