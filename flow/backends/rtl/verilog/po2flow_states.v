// Made by po2flow; see docs/rtl.md.
`default_nettype none

// What waits from one of ROWS rows to the next: `x` of the row that leaves, zeros before the first row. EVERY row is
// sent on, or only the last one.
module po2flow_states #(parameter WIDTH = 1, parameter ROWS = 2, parameter [0:0] EVERY = 1) (
    input wire clk,
    input wire rst,
    input wire ce,
    input wire leaves,
    input wire [WIDTH-1:0] x,
    output reg [WIDTH-1:0] y,
    output wire sent
);
    localparam BITS = ROWS > 1 ? $clog2(ROWS) : 1, LAST = ROWS - 1;
    reg [BITS-1:0] row;
    wire last = row == LAST[BITS-1:0];
    assign sent = leaves & (EVERY | last);
    always @(posedge clk)
        if (rst | (ce & leaves & last)) begin
            y <= 0;
            row <= 0;
        end else if (ce & leaves) begin
            y <= x;
            row <= row + 1'b1;
        end
endmodule

`default_nettype wire
