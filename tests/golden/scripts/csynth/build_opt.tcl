array set opt {
    reset 1
    csim 0
    synth 1
    cosim 0
    validation 0
    export 0
    vsynth 0
    fifo_opt 0
}
