package box

const sysFstatat = 79 // newfstatat
