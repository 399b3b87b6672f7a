// The Verilated shell and the far end of its serial line.
//
// Time advances in cycles; a bit on the line takes `divisor` of them, in either direction.
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>

#include "Vshell.h"
#include "verilated.h"

namespace {

class Board {
   public:
    explicit Board(unsigned divisor) : divisor_(divisor) {
        context_.reset(new VerilatedContext);
        top_.reset(new Vshell(context_.get()));
        top_->rx = 1;
        top_->rst = 1;
        for (int i = 0; i < 4; ++i) cycle();
        top_->rst = 0;
        cycle();
    }

    ~Board() { top_->final(); }

    // Send all bytes, then go on for `more` cycles; returns the number of bytes received, which
    // are kept until there is room for them.
    size_t exchange(const uint8_t* data, size_t count, uint64_t more, uint8_t* out, size_t room) {
        for (size_t n = 0; n < count; ++n) {
            const unsigned frame = 1u << 9 | unsigned(data[n]) << 1;
            for (int bit = 0; bit < 10; ++bit) {
                top_->rx = frame >> bit & 1;
                for (unsigned i = 0; i < divisor_; ++i) cycle();
            }
        }
        for (uint64_t n = 0; n < more; ++n) cycle();
        size_t given = 0;
        for (; given < room && !received_.empty(); ++given) {
            out[given] = received_.front();
            received_.pop_front();
        }
        return given;
    }

    uint64_t cycles = 0, bad_stops = 0;

   private:
    void cycle() {
        top_->clk = 0;
        top_->eval();
        top_->clk = 1;
        top_->eval();
        ++cycles;
        listen(top_->tx);
    }

    // Bits are sampled in their middle.
    void listen(bool line) {
        if (bit_ < 0) {
            if (line) return;
            bit_ = 0;
            wait_ = divisor_ / 2;
        }
        if (wait_--) return;
        wait_ = divisor_ - 1;
        if (bit_ >= 1 && bit_ <= 8) byte_ = uint8_t(byte_ >> 1 | line << 7);
        if (bit_++ < 9) return;
        bit_ = -1;
        if (line)
            received_.push_back(byte_);
        else
            ++bad_stops;
    }

    std::unique_ptr<VerilatedContext> context_;
    std::unique_ptr<Vshell> top_;
    std::deque<uint8_t> received_;
    unsigned divisor_, wait_ = 0;
    int bit_ = -1;
    uint8_t byte_ = 0;
};

}  // namespace

extern "C" {
Board* shell_new(unsigned divisor) { return new Board(divisor); }
void shell_free(Board* b) { delete b; }
size_t shell_exchange(Board* b, const uint8_t* data, size_t count, uint64_t more, uint8_t* out,
                      size_t room) {
    return b->exchange(data, count, more, out, room);
}
uint64_t shell_cycles(Board* b) { return b->cycles; }
uint64_t shell_bad_stops(Board* b) { return b->bad_stops; }
}
