// The accelerator in a design of plain Verilog (SystemVerilog for `.*` alone): one AXI4-Lite slave
// for its registers, one AXI4 master for its memory, and here a count of its interrupts.
//
// The ports are those of `rowmesh generate --config tiny`: 64-bit data, one master. Connect them to
// an interconnect or to a memory controller; names and meaning are AXI's.
module soc (
    input clk, input rst, output irq, output reg [7:0] runs,
    input s_axil_awvalid, s_axil_wvalid, s_axil_bready, s_axil_arvalid, s_axil_rready,
    input [2:0] s_axil_awprot, s_axil_arprot,
    input [3:0] s_axil_wstrb,
    input [11:0] s_axil_awaddr, s_axil_araddr,
    input [31:0] s_axil_wdata,
    output s_axil_awready, s_axil_wready, s_axil_bvalid, s_axil_arready, s_axil_rvalid,
    output [1:0] s_axil_bresp, s_axil_rresp,
    output [31:0] s_axil_rdata,
    input m0_axi_awready, m0_axi_wready, m0_axi_bid, m0_axi_bvalid, m0_axi_arready, m0_axi_rid,
        m0_axi_rlast, m0_axi_rvalid,
    input [1:0] m0_axi_bresp, m0_axi_rresp,
    input [63:0] m0_axi_rdata,
    output m0_axi_awid, m0_axi_awlock, m0_axi_awvalid, m0_axi_wlast, m0_axi_wvalid,
        m0_axi_bready, m0_axi_arid, m0_axi_arlock, m0_axi_arvalid, m0_axi_rready,
    output [1:0] m0_axi_awburst, m0_axi_arburst,
    output [2:0] m0_axi_awsize, m0_axi_awprot, m0_axi_arsize, m0_axi_arprot,
    output [3:0] m0_axi_awcache, m0_axi_arcache,
    output [7:0] m0_axi_awlen, m0_axi_wstrb, m0_axi_arlen,
    output [31:0] m0_axi_awaddr, m0_axi_araddr,
    output [63:0] m0_axi_wdata
);
    rowmesh accelerator (.*);

    reg irq_before;
    always @(posedge clk) begin
        irq_before <= ~rst & irq;
        runs <= rst ? 8'd0 : runs + (irq & ~irq_before);
    end
endmodule
