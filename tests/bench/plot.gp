# gnuplot: data, picture. How many times better than its target each measure is; the line is the target.
set terminal svg size 1000,700 noenhanced font "sans,12"
set output picture
set datafile separator "\t"
set title "Times better than the target"
set logscale x
set yrange [*:*] reverse
set style fill solid 0.7
set grid x
unset key
set lmargin 52
set arrow from 1, graph 0 to 1, graph 1 nohead front lw 2
# A bar from the target to what was reached.
plot data using (1.0):0:(1.0):2:($0 - 0.35):($0 + 0.35):($2 < 1 ? 0xd9534f : 0x4a8c4a):ytic(1) with boxxyerror lc rgb variable
