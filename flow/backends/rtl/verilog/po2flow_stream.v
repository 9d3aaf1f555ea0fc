// The stream library of po2flow: handshakes are AXI-Stream's (a word passes when valid and ready are high).
`default_nettype none

// A value, DEPTH cycles of `ce` later.
module po2flow_delay #(parameter WIDTH = 1, parameter DEPTH = 1) (
    input wire clk,
    input wire ce,
    input wire [WIDTH-1:0] x,
    output wire [WIDTH-1:0] y
);
    reg [WIDTH*DEPTH-1:0] stages;
    wire [WIDTH*(DEPTH+1)-1:0] line = {stages, x};
    assign y = line[WIDTH*DEPTH +: WIDTH];
    always @(posedge clk) if (ce) stages <= line[WIDTH*DEPTH-1:0];
endmodule

// Which stages of a pipeline hold a word: bit i is high i + 1 cycles of `ce` after x.
module po2flow_valid #(parameter DEPTH = 1) (
    input wire clk,
    input wire rst,
    input wire ce,
    input wire x,
    output reg [DEPTH-1:0] y
);
    wire [DEPTH:0] line = {y, x};
    always @(posedge clk)
        if (rst) y <= 0;
        else if (ce) y <= line[DEPTH-1:0];
endmodule

// First in, first out; `x_ready` does not depend on `y_ready`.
module po2flow_fifo #(parameter WIDTH = 1, parameter DEPTH = 2) (
    input wire clk,
    input wire rst,
    input wire [WIDTH-1:0] x_data,
    input wire x_valid,
    output wire x_ready,
    output wire [WIDTH-1:0] y_data,
    output wire y_valid,
    input wire y_ready
);
    localparam BITS = DEPTH > 1 ? $clog2(DEPTH) : 1, LAST = DEPTH - 1;
    reg [WIDTH-1:0] words [0:DEPTH-1];
    reg [BITS-1:0] oldest, vacant;
    reg [BITS:0] count;
    wire write = x_valid & x_ready, read = y_valid & y_ready;
    assign x_ready = count != DEPTH[BITS:0];
    assign y_valid = count != 0;
    assign y_data = words[oldest];
    always @(posedge clk) begin
        if (write) words[vacant] <= x_data;
        if (rst) begin
            oldest <= 0;
            vacant <= 0;
            count <= 0;
        end else begin
            if (write) vacant <= vacant == LAST[BITS-1:0] ? 0 : vacant + 1'b1;
            if (read) oldest <= oldest == LAST[BITS-1:0] ? 0 : oldest + 1'b1;
            count <= count + {{BITS{1'b0}}, write} - {{BITS{1'b0}}, read};
        end
    end
endmodule

// One stream to COUNT readers, each of which takes the word when it can.
module po2flow_fork #(parameter COUNT = 2) (
    input wire clk,
    input wire rst,
    input wire x_valid,
    output wire x_ready,
    output wire [COUNT-1:0] y_valid,
    input wire [COUNT-1:0] y_ready
);
    reg [COUNT-1:0] done;
    assign y_valid = {COUNT{x_valid}} & ~done;
    assign x_ready = &(done | y_ready);
    always @(posedge clk)
        if (rst | (x_valid & x_ready)) done <= 0;
        else done <= done | (y_valid & y_ready);
endmodule

// COUNT words to one wide word, the first one lowest.
module po2flow_collect #(parameter WIDTH = 1, parameter COUNT = 2) (
    input wire clk,
    input wire rst,
    input wire [WIDTH-1:0] x_data,
    input wire x_valid,
    output wire x_ready,
    output wire [WIDTH*COUNT-1:0] y_data,
    output reg y_valid,
    input wire y_ready
);
    localparam BITS = COUNT > 1 ? $clog2(COUNT) : 1, LAST = COUNT - 1;
    reg [WIDTH*COUNT-1:0] words;
    reg [BITS-1:0] place;
    wire take = x_valid & x_ready, last = place == LAST[BITS-1:0];
    wire [WIDTH*(COUNT+1)-1:0] line = {x_data, words};
    assign x_ready = ~y_valid | y_ready;
    assign y_data = words;
    always @(posedge clk) begin
        if (take) words <= line[WIDTH*(COUNT+1)-1:WIDTH];
        if (rst) begin
            place <= 0;
            y_valid <= 0;
        end else begin
            if (take) place <= last ? 0 : place + 1'b1;
            if (take | y_ready) y_valid <= take & last;
        end
    end
endmodule

// One wide word to COUNT words, the lowest one first.
module po2flow_serialize #(parameter WIDTH = 1, parameter COUNT = 2) (
    input wire clk,
    input wire rst,
    input wire [WIDTH*COUNT-1:0] x_data,
    input wire x_valid,
    output wire x_ready,
    output wire [WIDTH-1:0] y_data,
    output wire y_valid,
    input wire y_ready
);
    localparam BITS = $clog2(COUNT + 1);
    reg [WIDTH*COUNT-1:0] words;
    reg [BITS-1:0] left;
    assign x_ready = (left == 0) | ((left == 1) & y_ready);
    assign y_data = words[WIDTH-1:0];
    assign y_valid = left != 0;
    always @(posedge clk) begin
        if (x_valid & x_ready) words <= x_data;
        else if (y_valid & y_ready) words <= words >> WIDTH;
        if (rst) left <= 0;
        else if (x_valid & x_ready) left <= COUNT[BITS-1:0];
        else if (y_valid & y_ready) left <= left - 1'b1;
    end
endmodule

// Windows of KR x KC pixels over a frame of ROWS x COLS, which stands at (TOP, LEFT) in a padded frame of
// PADDED_ROWS x PADDED_COLS. One pixel of the padded frame per cycle; padding takes a cycle and no input.
module po2flow_window #(
    parameter WIDTH = 1, parameter ROWS = 1, parameter COLS = 1, parameter KR = 1, parameter KC = 1,
    parameter SR = 1, parameter SC = 1, parameter TOP = 0, parameter LEFT = 0,
    parameter PADDED_ROWS = 1, parameter PADDED_COLS = 1, parameter [WIDTH-1:0] FILL = 0
) (
    input wire clk,
    input wire rst,
    input wire ce,
    input wire [WIDTH-1:0] x_data,
    input wire x_valid,
    output wire x_ready,
    output wire [KR*KC*WIDTH-1:0] y_data,
    output reg y_valid
);
    localparam ROW_BITS = $clog2(PADDED_ROWS + 1), COL_BITS = $clog2(PADDED_COLS + 1);
    localparam RSKIP_BITS = $clog2((KR > SR ? KR : SR) + 1), CSKIP_BITS = $clog2((KC > SC ? KC : SC) + 1);
    localparam BOTTOM = TOP + ROWS, RIGHT = LEFT + COLS, LAST_ROW = PADDED_ROWS - 1, LAST_COL = PADDED_COLS - 1;
    localparam ROW_START = KR - 1, COL_START = KC - 1, ROW_STEP = SR - 1, COL_STEP = SC - 1;
    reg [ROW_BITS-1:0] row;
    reg [COL_BITS-1:0] col;
    reg [RSKIP_BITS-1:0] row_skip;  // rows until the next one that ends a window
    reg [CSKIP_BITS-1:0] col_skip;
    wire real_row = (PADDED_ROWS == ROWS) | ((row >= TOP[ROW_BITS-1:0]) & (row < BOTTOM[ROW_BITS-1:0]));
    wire real_col = (PADDED_COLS == COLS) | ((col >= LEFT[COL_BITS-1:0]) & (col < RIGHT[COL_BITS-1:0]));
    wire in_frame = real_row & real_col;
    wire step = ce & (x_valid | ~in_frame);
    wire last_col = col == LAST_COL[COL_BITS-1:0], last_row = row == LAST_ROW[ROW_BITS-1:0];
    wire [WIDTH-1:0] pixel = in_frame ? x_data : FILL;
    wire [KR*WIDTH-1:0] column;  // the newest pixel of each row of the window, the oldest row lowest
    reg [KC*WIDTH-1:0] window [0:KR-1];
    assign x_ready = ce & in_frame;

    generate
        if (KR > 1) begin : lines
            reg [(KR-1)*WIDTH-1:0] memory [0:PADDED_COLS-1];
            localparam ADDRESS_BITS = PADDED_COLS > 1 ? $clog2(PADDED_COLS) : 1;
            wire [ADDRESS_BITS-1:0] place = col[ADDRESS_BITS-1:0];
            wire [(KR-1)*WIDTH-1:0] above = memory[place];
            assign column = {pixel, above};
            always @(posedge clk) if (step) memory[place] <= column[KR*WIDTH-1:WIDTH];
        end else begin : no_lines
            assign column = pixel;
        end
    endgenerate

    genvar i;
    generate
        for (i = 0; i < KR; i = i + 1) begin : rows
            wire [(KC+1)*WIDTH-1:0] line = {column[i*WIDTH +: WIDTH], window[i]};
            assign y_data[i*KC*WIDTH +: KC*WIDTH] = window[i];
            always @(posedge clk) if (step) window[i] <= line[(KC+1)*WIDTH-1:WIDTH];
        end
    endgenerate

    always @(posedge clk) begin
        if (rst) begin
            row <= 0;
            col <= 0;
            row_skip <= ROW_START[RSKIP_BITS-1:0];
            col_skip <= COL_START[CSKIP_BITS-1:0];
            y_valid <= 0;
        end else if (ce) begin
            y_valid <= step & (row_skip == 0) & (col_skip == 0);
            if (step) begin
                col <= last_col ? 0 : col + 1'b1;
                col_skip <= last_col ? COL_START[CSKIP_BITS-1:0]
                    : col_skip == 0 ? COL_STEP[CSKIP_BITS-1:0] : col_skip - 1'b1;
                if (last_col) begin
                    row <= last_row ? 0 : row + 1'b1;
                    row_skip <= last_row ? ROW_START[RSKIP_BITS-1:0]
                        : row_skip == 0 ? ROW_STEP[RSKIP_BITS-1:0] : row_skip - 1'b1;
                end
            end
        end
    end
endmodule

`default_nettype wire
