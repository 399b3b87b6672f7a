// Block RAM of the ECP5: a black box among Yosys' own simulation cells.
//
// 2048 bytes of 9 bits. Two ports of 1, 2, 4, 9 or 18 bits; or, with 36 bits, port A writes and
// port B reads, and the pins of both carry the halves of a word. Low address pins are the byte
// enables of ports of 18 and 36 bits. Sources: Lattice FPGA-TN-02204 (memory of ECP5), and the
// connections that Yosys makes in share/lattice/brams_map_16kd.v.
//
// Both ports have the same clock, or one has none. What hardware leaves open is answered wrongly
// on purpose: a byte that the other port writes at the edge at which it is read reads as the
// complement of its old content. Resets act at the clock edge. Output pins beyond the width mean
// nothing. What Yosys does not make (output registers, chip selects, another clock edge) ends the
// simulation.
module DP16KD (
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5,
        DIA4, DIA3, DIA2, DIA1, DIA0,
    input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
    input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5,
        DOA4, DOA3, DOA2, DOA1, DOA0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5,
        DIB4, DIB3, DIB2, DIB1, DIB0,
    input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
    input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5,
        DOB4, DOB3, DOB2, DOB1, DOB0
);
    parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18;
    parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG";
    parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC", GSR = "ENABLED";
    parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000";
    parameter [127:0] WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL";
    parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB";
    parameter [319:0] INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0;
    parameter [319:0] INITVAL_04 = 0, INITVAL_05 = 0, INITVAL_06 = 0, INITVAL_07 = 0;
    parameter [319:0] INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0;
    parameter [319:0] INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0;
    parameter [319:0] INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0;
    parameter [319:0] INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0;
    parameter [319:0] INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0;
    parameter [319:0] INITVAL_1C = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0;
    parameter [319:0] INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0, INITVAL_23 = 0;
    parameter [319:0] INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0;
    parameter [319:0] INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0;
    parameter [319:0] INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0;
    parameter [319:0] INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0;
    parameter [319:0] INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0, INITVAL_37 = 0;
    parameter [319:0] INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0;
    parameter [319:0] INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0;

    localparam narrow = DATA_WIDTH_A != 36;
    localparam [64 * 320 - 1:0] INIT = {
        INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A,
        INITVAL_39, INITVAL_38, INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34,
        INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E,
        INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
        INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22,
        INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C,
        INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16,
        INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10,
        INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A,
        INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04,
        INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00
    };

    wire [13:0] ad[0:1];
    wire [17:0] di[0:1];
    reg [35:0] out[0:1];
    wire clk = CLKA | CLKB;
    wire [1:0] ce = {CEB & ~(CSB2 | CSB1 | CSB0), CEA & ~(CSA2 | CSA1 | CSA0)};
    wire [1:0] we = ce & {WEB & narrow, WEA};
    wire [1:0] rst = {RSTB, RSTA};
    assign ad[0] = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2,
        ADA1, ADA0};
    assign di[0] = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7,
        DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5,
        DOA4, DOA3, DOA2, DOA1, DOA0} = narrow ? out[0][17:0] : out[1][17:0];
    assign ad[1] = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2,
        ADB1, ADB0};
    assign di[1] = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7,
        DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0};
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5,
        DOB4, DOB3, DOB2, DOB1, DOB0} = narrow ? out[1][17:0] : out[1][35:18];

    function integer width(input integer p);
        width = p ? DATA_WIDTH_B : DATA_WIDTH_A;
    endfunction
    function [127:0] mode(input integer p);
        mode = p ? WRITEMODE_B : WRITEMODE_A;
    endfunction
    // First byte of the word at an address, and which bytes of it a write changes.
    function [10:0] first(input integer p, input [13:0] a);
        first = width(p) == 36 ? {a[13:5], 2'b00} : width(p) == 18 ? {a[13:4], 1'b0} : a[13:3];
    endfunction
    function [3:0] enables(input integer p, input [13:0] a);
        enables = width(p) == 36 ? a[3:0] : width(p) == 18 ? {2'b00, a[1:0]} : 4'b0001;
    endfunction
    // Bit of the byte at which a port that is narrower begins, and its bits.
    function integer shift(input integer p, input [13:0] a);
        shift = width(p) == 1 ? a[2:0] : width(p) == 2 ? {a[2:1], 1'b0}
            : width(p) == 4 ? {a[2], 2'b00} : 0;
    endfunction
    function [8:0] bits(input integer p);
        bits = width(p) < 9 ? (1 << width(p)) - 1 : 9'h1ff;
    endfunction
    // A byte behind a write.
    function [8:0] merged(
            input integer p, input [13:0] a, input [8:0] byte_before, input [8:0] part);
        merged = byte_before & ~(bits(p) << shift(p, a)) | (part & bits(p)) << shift(p, a);
    endfunction
    // Whether a port writes a byte.
    function changes(input integer p, input writes, input [13:0] a, input [10:0] at);
        integer lane;
        begin
            changes = 0;
            for (lane = 0; lane < 4; lane = lane + 1)
                if (first(p, a) + lane == at && enables(p, a) >> lane & 1) changes = writes;
        end
    endfunction

    reg [8:0] mem[0:2047];
    reg [10:0] at;
    reg [8:0] old, seen;
    reg [35:0] word;
    integer n, p, lane;

    initial begin
        for (n = 0; n < 1024; n = n + 1)
            {mem[2 * n + 1], mem[2 * n]} = INIT[20 * n +: 18];
        out[0] = 0;
        out[1] = 0;
        if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG" || CLKAMUX != "CLKA" || CLKBMUX != "CLKB"
                || CSDECODE_A != "0b000" || CSDECODE_B != "0b000"
                || (DATA_WIDTH_A == 36) != (DATA_WIDTH_B == 36)) begin
            $display("DP16KD: this model has no such configuration");
            $finish;
        end
    end

    always @(posedge clk) begin
        for (p = 0; p < 2; p = p + 1) begin
            word = narrow ? di[p] : {di[1], di[0]};
            for (lane = 0; lane < 4; lane = lane + 1) begin
                at = first(p, ad[p]) + lane;
                old = mem[at];
                if (changes(1 - p, we[1 - p], ad[1 - p], at)) seen = ~old;
                else if (mode(p) == "WRITETHROUGH" && changes(p, we[p], ad[p], at))
                    seen = merged(p, ad[p], old, word[9 * lane +: 9]);
                else seen = old;
                if (ce[p] && (!we[p] || mode(p) != "NORMAL"))
                    out[p][9 * lane +: 9] <= seen >> shift(p, ad[p]) & bits(p);
            end
            if (rst[p]) out[p] <= 0;
        end
        for (p = 0; p < 2; p = p + 1) begin
            word = narrow ? di[p] : {di[1], di[0]};
            for (lane = 0; lane < 4; lane = lane + 1) begin
                at = first(p, ad[p]) + lane;
                if (we[p] && enables(p, ad[p]) >> lane & 1)
                    mem[at] = merged(p, ad[p], mem[at], word[9 * lane +: 9]);
            end
        end
    end
endmodule
