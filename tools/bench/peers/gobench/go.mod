module weft/tools/bench/peers/gobench

go 1.18
